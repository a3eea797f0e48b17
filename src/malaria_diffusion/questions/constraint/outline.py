"""The outline of each cell as numbers, by which what is no cell can be told from cells.

Lengths are shares of the frame. The foreground is that of `distributions.measure.foreground`, the same for real and
synthetic cells.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from malaria_diffusion.questions.distributions.measure import CELLS_AT_ONCE, foreground

TOUCHING = np.ones((3, 3), dtype=np.bool_)  # by sides or corners
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # of a pixel, which is a square


def outlines(cells: NDArray[np.uint8], background: tuple[int, int, int], threshold: int) -> pd.DataFrame:
    """Measure the outline of every cell.

    Args:
        cells: uint8, (N, 3, S, S).
        background: See `distributions.measure.foreground`.
        threshold: See there.

    Returns:
        One row a cell. All but the first two are of the largest region of foreground that is connected by sides or
        corners, its holes filled:

        * empty: no foreground; such a cell is 0 in all other columns.
        * apart: the share of the foreground that is not connected with that region, 0 to 1.
        * hole: the share of the filled region that is hole (not foreground, not connected by sides with its outside).
        * area: its share of the frame, 0 to 1.
        * cut: the longest straight contact with a side of the frame, as a share of that side, 0 to 1: the packed frame
          is drawn close around a cell, so that a whole one touches it with its roundings, and one that goes on beyond
          the frame with a chord.
        * roundness: 4 area / (pi major axis squared), the axis that of the ellipse with the region's second moments; 1
          is a disc, 0 a line (ISO 9276-6; its axis by moments, as a pixelated outline has no good perimeter).
        * solidity: area over that of the convex hull of its pixels, 0 to 1; 1 is convex.
    """
    rows = []
    for start in range(0, len(cells), CELLS_AT_ONCE):
        masks = foreground(np.asarray(cells[start : start + CELLS_AT_ONCE]), background, threshold)
        rows += [_outline(mask) for mask in masks]
    return pd.DataFrame(rows, columns=["empty", "apart", "hole", "area", "cut", "roundness", "solidity"])


def _outline(mask: NDArray[np.bool_]) -> tuple[bool, float, float, float, float, float, float]:
    labels, number = ndimage.label(mask, TOUCHING)
    if not number:
        return True, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    sizes = np.bincount(labels.ravel())[1:]
    region = labels == 1 + int(sizes.argmax())
    filled = ndimage.binary_fill_holes(region)
    area = int(filled.sum())
    return (
        False,
        1 - float(sizes.max() / sizes.sum()),
        1 - float(region.sum() / area),
        area / mask.size,
        max(_longest_run(side) for side in (filled[0], filled[-1], filled[:, 0], filled[:, -1])) / mask.shape[0],
        _roundness(filled),
        area / _hull_area(filled),
    )


def _longest_run(line: NDArray[np.bool_]) -> int:
    """Pixels of the longest unbroken run."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]])))
    return int((steps[1::2] - steps[::2]).max(initial=0))


def _roundness(region: NDArray[np.bool_]) -> float:
    places = np.argwhere(region).astype(float)
    second = np.cov(places.T, bias=True) + np.eye(2) / 12  # of a pixel, a square
    major = 4 * math.sqrt(float(np.linalg.eigvalsh(np.atleast_2d(second))[-1]))
    return min(1.0, 4 * len(places) / (math.pi * major**2))


def _hull_area(region: NDArray[np.bool_]) -> float:
    rim = region & ~ndimage.binary_erosion(region)
    corners = (np.argwhere(rim)[:, None, :] + CORNERS).reshape(-1, 2)
    return float(ConvexHull(corners).volume)  # of a polygon the volume is the area
