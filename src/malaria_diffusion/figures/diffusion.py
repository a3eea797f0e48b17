"""Figures 1, 2 and 7, and sheets of generated cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import SYNTHETIC, mosaic, new_figure, show_image

SHEET_COLUMNS = 16
SHEET_ROWS = 4


def process(
    forward: dict[int, NDArray[np.uint8]], reverse: dict[int, NDArray[np.uint8]], label: str, images: str
) -> Figure:
    """Figure 1: the forward process of one cell above, the reverse process below.

    Args:
        forward: Image (3, S, S) by steps taken.
        reverse: Image (3, S, S) by network evaluations made.
        label: Class of both.
        images: What the training images are, for the title.
    """
    columns = max(len(forward), len(reverse))
    figure = new_figure(1.1 * columns, 3)
    axes = figure.subplots(2, columns)
    for row, film, unit, name in ((axes[0], forward, "t", "forward"), (axes[1], reverse, "evaluation", "reverse")):
        for place, (step, image) in zip(row, film.items(), strict=False):
            show_image(place, image, f"{unit} = {step}")
        for place in row[len(film) :]:
            place.set_axis_off()
        row[0].set_ylabel(name, fontsize=9)
    figure.suptitle(
        f"Figure 1. A cell of class {label} turned into noise (eq. 5), and noise into a synthetic one ({images})",
        fontsize=9,
    )
    return figure


def sheet(cells: NDArray[np.uint8], labels: pd.Series, images: str) -> Figure:
    """Generated cells, class by class; at most 64 a class."""
    classes = sorted(labels.unique())
    rows = -(-min(labels.value_counts().max(), SHEET_COLUMNS * SHEET_ROWS) // SHEET_COLUMNS)
    figure = new_figure(9, 0.4 + len(classes) * (0.3 + 0.58 * rows))
    for axes, label in zip(figure.subplots(len(classes), 1, squeeze=False)[:, 0], classes, strict=True):
        chosen = np.flatnonzero(labels == label)[: SHEET_COLUMNS * SHEET_ROWS]
        show_image(axes, mosaic(cells[chosen], SHEET_COLUMNS), f"synthetic, {label}")
    figure.suptitle(f"Synthetic cells of a model trained on {images}", fontsize=9)
    return figure


def beside(
    real: NDArray[np.uint8],
    real_labels: pd.Series,
    synthetic: NDArray[np.uint8],
    synthetic_labels: pd.Series,
    images: str,
) -> Figure:
    """Figure 2: for each class, unseen cells left and synthetic cells right.

    Args:
        real: uint8, (N, 3, S, S).
        real_labels: Their classes.
        synthetic: uint8, (M, 3, S, S).
        synthetic_labels: Their classes.
        images: What the left side is, e.g. "phantom cells of unseen people".
    """
    classes = sorted(real_labels.unique())
    figure = new_figure(9, 0.5 + 4.4 * len(classes))
    axes = figure.subplots(len(classes), 2, squeeze=False)
    for row, label in zip(axes, classes, strict=True):
        # evenly spaced, as the cells of one person stand together
        rows = np.flatnonzero(real_labels == label)
        rows = rows[np.linspace(0, len(rows) - 1, min(64, len(rows))).astype(int)]
        show_image(row[0], mosaic(real[rows], 8), f"{images}: {label}")
        chosen = np.flatnonzero(synthetic_labels == label)[:64]
        if len(chosen):
            show_image(row[1], mosaic(synthetic[chosen], 8), f"synthetic: {label}")
        else:
            row[1].set_axis_off()
            row[1].set_title(f"synthetic: {label} (none asked for)", fontsize=8)
    figure.suptitle("Figure 2. Synthetic cells beside the cells they should resemble", fontsize=10)
    return figure


def loss_curve(history: pd.DataFrame, images: str) -> Figure:
    """Figure 7: training and validation loss of the DDPM over images seen."""
    figure = new_figure(6, 3.2)
    axes = figure.subplots()
    axes.plot(history["images_seen"], history["loss"], linewidth=1, label="training", color=SYNTHETIC, alpha=0.6)
    at_ends = history.dropna(subset="val_loss")
    axes.plot(
        at_ends["images_seen"], at_ends["val_loss"], "o-", markersize=3, label="validation split (averaged weights)"
    )
    axes.set_yscale("log")
    axes.set_xlabel("images seen")
    axes.set_ylabel("mean squared error")
    axes.legend(fontsize=8)
    axes.set_title(f"Figure 7. Loss of the DDPM ({images})", fontsize=10)
    return figure
