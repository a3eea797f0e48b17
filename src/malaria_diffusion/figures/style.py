"""What all figures share."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.statistics.comparison import MOST_CLASSES

REAL = "#1f77b4"
SYNTHETIC = "#d95f02"
FLOOR = "#7f7f7f"
DPI = 150
GAP = 2  # between images of a mosaic, pixels


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` x `height` inches outside pyplot's register, so that it is freed with its last reference."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def shown_classes(classes: list[str]) -> tuple[list[str], str]:
    """The first classes, as many as a figure shows, and what its title says of the others."""
    return classes[:MOST_CLASSES], "" if len(classes) <= MOST_CLASSES else f", {MOST_CLASSES} of {len(classes)} classes"


def show_image(axes: Axes, image: NDArray[np.uint8], title: str = "") -> None:
    """One image, uint8 (3, S, S), without ticks."""
    axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, fontsize=8)


def mosaic(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images (N, 3, S, S) side by side on white, as one (3, H, W); empty places stay white."""
    count, _, side, _ = images.shape
    rows = -(-count // columns)
    pitch = side + GAP
    canvas = np.full((3, rows * pitch - GAP, columns * pitch - GAP), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * pitch, place % columns * pitch
        canvas[:, top : top + side, left : left + side] = image
    return canvas
