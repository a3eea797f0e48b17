"""What a pathologist reads off a stained cell, as numbers: shape, stain, texture, and dark spots.

Lengths are shares of the frame, as packed cells fill it: the same rule for every size S, for real and synthetic cells.
Stain is measured as absorbance, the negative logarithm of the level (Beer-Lambert), so that a brighter lamp changes
nothing.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from malaria_diffusion.classifier.data import check_cells
from malaria_diffusion.questions.distributions.measure import CELLS_AT_ONCE, LUMA, foreground

DESCRIPTORS = ("fill_fraction", "eccentricity", "hue", "saturation", "texture", "dark_spots", "dark_area")
IMAGE_FACTORS = ("hue", "saturation", "brightness", "focus")
# a pixel is dark where red and green light are absorbed by this much more than at the cell's median pixel: 1 - exp(-x),
# about a seventh, of the light is missing; eosin's pink lets red light through, and every stain here blue light
DARK = 0.15
# the width of the rim as a share of S, and the smallest spot as a share of the frame: resizing and edges darken pixels
RIM = 1 / 32
SPOT = 1 / 512
# the cut of the circle of hues, in degrees: green, as far from pink and purple as can be
CUT = 120.0


def describe(cells: NDArray[np.uint8], background: tuple[int, int, int], threshold: int) -> pd.DataFrame:
    """Measure every cell.

    Args:
        cells: uint8, (N, 3, S, S).
        background: See `questions.distributions.measure.foreground`.
        threshold: See there.

    Returns:
        One row a cell:

        * fill_fraction: the foreground's share of the frame, 0 to 1. A cell that fills the frame has no size, so this
          tells of its outline (a disc has pi / 4); with data_processing.packing.common_side it is the cell's area.
        * eccentricity: of the ellipse with the foreground's second moments, 0 (circle) to below 1 (line).
        * hue: of the foreground's mean colour, which is the mean of its pixels' hues as vectors, each as long as its
          colour is strong. Degrees in [120, 480): 240 is blue, 300 magenta, 360 red. A colourless cell has 360.
        * saturation: mean of (max - min) / max of the channels over the foreground, 0 to 1.
        * texture: mean standard deviation of the absorbance of red and green light within 3 x 3 pixels (at S = 32, and
          as wide for other S), further than S / 16 from the edge: how granular the stain is, however strong.
        * dark_spots: connected spots of `dark_mask`.
        * dark_area: their share of the foreground, 0 to 1.
        * empty: no foreground; such a cell is 0 in all other columns.
    """
    check_cells(cells)
    parts = [
        _describe(np.asarray(cells[start : start + CELLS_AT_ONCE]), background, threshold)
        for start in range(0, max(len(cells), 1), CELLS_AT_ONCE)
    ]
    table = pd.concat(parts, ignore_index=True)
    table.loc[table["empty"], list(DESCRIPTORS)] = 0
    return table


def image_factors(cells: NDArray[np.uint8], background: tuple[int, int, int], threshold: int) -> pd.DataFrame:
    """Conditions of acquisition that show in the image, measured beside the dark spots, lest these be taken for them.

    Args:
        cells: uint8, (N, 3, S, S).
        background: See `questions.distributions.measure.foreground`.
        threshold: See there.

    Returns:
        One row a cell, over the foreground without `dark_mask` and S / 32 around it (with both where nothing else is
        left): hue and saturation (the stain, as in `describe`), brightness (mean luma, 0 to 255: the light, and what
        the stain leaves of it), focus (variance of the luma's Laplacian over the luma's variance, both away from the
        edge: fine detail for its contrast; 0 without any contrast), and empty (no foreground; all else is 0).
    """
    check_cells(cells)
    parts = []
    for start in range(0, max(len(cells), 1), CELLS_AT_ONCE):
        part = np.asarray(cells[start : start + CELLS_AT_ONCE])
        mask = foreground(part, background, threshold)
        dark = _spots(absorbance(part), mask)[0] > 0
        plain = mask & ~ndimage.maximum_filter(dark, size=_window(mask.shape[-1]))
        plain = np.where(plain.any(axis=(1, 2), keepdims=True), plain, mask)
        luma = np.tensordot(part.astype(np.float64), LUMA, axes=(1, 0))
        inside = interior(mask) & plain
        padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
        laplacian = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:] - 4 * luma
        detail, contrast = _variance(laplacian, inside), _variance(luma, inside)
        focus = np.where(contrast > 1e-9, detail / np.maximum(contrast, 1e-9), 0)
        hue, saturation = _stain(part, plain)
        found = {"hue": hue, "saturation": saturation, "brightness": mean_over(luma, plain), "focus": focus}
        parts.append(pd.DataFrame(found | {"empty": ~mask.any(axis=(1, 2))}))
    table = pd.concat(parts, ignore_index=True)
    table.loc[table["empty"], list(IMAGE_FACTORS)] = 0
    return table


def dark_mask(cells: NDArray[np.uint8], background: tuple[int, int, int], threshold: int) -> NDArray[np.bool_]:
    """Dark and purple spots within the cells: candidates for a finding.

    A pixel is dark if it absorbs more red and green light than the cell's own median pixel by more than 0.15 (natural
    logarithm). It must lie further than S / 32 from the cell's edge, in a spot of at least S^2 / 512 pixels that touch
    by sides or corners.

    Args:
        cells: uint8, (N, 3, S, S).
        background: See `questions.distributions.measure.foreground`.
        threshold: See there.

    Returns:
        bool, (N, S, S).
    """
    check_cells(cells)
    found = np.zeros((len(cells), *cells.shape[-2:]), dtype=np.bool_)
    for start in range(0, len(cells), CELLS_AT_ONCE):
        part = np.asarray(cells[start : start + CELLS_AT_ONCE])
        mask = foreground(part, background, threshold)
        found[start : start + len(part)] = _spots(absorbance(part), mask)[0] > 0
    return found


def absorbance(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean absorbance of red and green light (N, S, S), natural logarithm; level 0 counts as 1."""
    mean: NDArray[np.float32] = -np.log(np.maximum(cells[:, :2], 1).astype(np.float32) / 255).mean(axis=1)
    return mean


def interior(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Foreground (N, S, S) whose surroundings, S / 32 far in all eight directions, are foreground and in the frame."""
    return ndimage.minimum_filter(mask, size=_window(mask.shape[-1]), mode="constant", cval=0)


def mean_over(values: NDArray[np.number | np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each image's values (N, S, S) over its mask; 0 where the mask is empty."""
    total: NDArray[np.float64] = (values * mask).sum(axis=(1, 2), dtype=np.float64)
    count: NDArray[np.int64] = mask.sum(axis=(1, 2))
    return total / np.maximum(count, 1)


def _describe(cells: NDArray[np.uint8], background: tuple[int, int, int], threshold: int) -> pd.DataFrame:
    mask = foreground(cells, background, threshold)
    stain = absorbance(cells)
    label, number = _spots(stain, mask)
    dark = label > 0
    # a spot belongs to the cell of its pixels
    owner = np.zeros(number + 1, dtype=np.int64)
    owner[label[dark]] = np.nonzero(dark)[0]
    spots = np.bincount(owner[np.unique(label[dark])], minlength=len(cells))

    hue, saturation = _stain(cells, mask)
    window = _window(cells.shape[-1])
    # the difference of two averages: of small numbers, lest rounding outweigh it
    around = (stain - mean_over(stain, mask).reshape(-1, 1, 1)).astype(np.float64)
    variance = ndimage.uniform_filter(around**2, window) - ndimage.uniform_filter(around, window) ** 2
    return pd.DataFrame(
        {
            "fill_fraction": mask.mean(axis=(1, 2)),
            "eccentricity": _eccentricity(mask),
            "hue": hue,
            "saturation": saturation,
            "texture": mean_over(np.sqrt(np.maximum(variance, 0)), interior(interior(mask))),
            "dark_spots": spots.astype(np.float64),
            "dark_area": mean_over(dark, mask),
            "empty": ~mask.any(axis=(1, 2)),
        }
    )


def _stain(cells: NDArray[np.uint8], mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hue and saturation (N,) of the masked pixels."""
    red, green, blue = (mean_over(cells[:, channel], mask) for channel in range(3))
    turn = np.degrees(np.arctan2(np.sqrt(3) / 2 * (green - blue), red - (green + blue) / 2))
    most = cells.max(axis=1).astype(np.float32)
    return (turn - CUT) % 360 + CUT, mean_over((most - cells.min(axis=1)) / np.maximum(most, 1), mask)


def _spots(stain: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    """Numbered dark spots (N, S, S), 0 elsewhere, and the highest number."""
    count = mask.sum(axis=(1, 2))
    ordered = np.sort(np.where(mask, stain, np.inf).reshape(len(mask), mask.shape[-1] ** 2), axis=1)
    median = np.take_along_axis(ordered, (np.maximum(count, 1) // 2).reshape(-1, 1), axis=1).reshape(-1, 1, 1)
    dark = interior(mask) & (stain - np.where(count.reshape(-1, 1, 1) > 0, median, 0) > DARK)
    touching = np.zeros((3, 3, 3), dtype=np.bool_)
    touching[1] = True  # within an image, never from one to the next
    label, number = ndimage.label(dark, touching)
    small = np.bincount(label.ravel(), minlength=number + 1) < SPOT * mask.shape[-1] ** 2
    label[small[label]] = 0
    return label, number


def _variance(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Variance of each image's values (N, S, S) over its mask; 0 where the mask is empty."""
    return mean_over((values - mean_over(values, mask).reshape(-1, 1, 1)) ** 2, mask)


def _window(size: int) -> tuple[int, int, int]:
    width = 2 * max(1, round(size * RIM)) + 1
    return 1, width, width


def _eccentricity(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """As scikit-image's regionprops has it: a pixel is a square, so that one alone is round."""
    place = np.arange(mask.shape[-1], dtype=np.float64)
    down, across = np.broadcast_to(place[:, None], mask.shape), np.broadcast_to(place, mask.shape)
    y, x = (values - mean_over(values, mask).reshape(-1, 1, 1) for values in (down, across))
    yy, xx, xy = (mean_over(values, mask) for values in (y * y, x * x, x * y))
    middle, half = (yy + xx) / 2 + 1 / 12, np.hypot((yy - xx) / 2, xy)
    return np.sqrt(2 * half / (middle + half))
