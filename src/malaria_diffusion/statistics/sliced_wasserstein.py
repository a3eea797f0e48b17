"""Sliced Wasserstein distance of weighted points (Rabin et al. 2012): how far all of a distribution has to be moved.

Unlike a Frechet distance it sees more than mean and covariance, and unlike the neighbour scores it has a scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PROJECTIONS = 100
# of the directions: other ones give slightly other numbers
SEED = 2012


def sliced_wasserstein(
    x: NDArray[np.float64], y: NDArray[np.float64], x_weights: NDArray[np.float64], y_weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean over random directions of the Wasserstein distance of order 1 between the projections on them.

    On a line it is the area between both distribution functions, for any weights.

    Args:
        x: Points (N, d).
        y: Points (M, d).
        x_weights: At least 0, of each point in each of R draws: (R, N); a row need not add up to 1.
        y_weights: The same of `y`, (R, M).

    Returns:
        (R,), in units of the coordinates.
    """
    directions = np.random.default_rng(SEED).normal(size=(x.shape[1], PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    weights = np.concatenate(
        [x_weights / x_weights.sum(axis=1, keepdims=True), -y_weights / y_weights.sum(axis=1, keepdims=True)], axis=1
    ).T.copy()  # a row a point: gathering rows is fast
    total = np.zeros(weights.shape[1])
    for places in (np.concatenate([x, y]) @ directions).T:
        order = np.argsort(places)
        apart = np.cumsum(weights[order[:-1]], axis=0)
        total += np.diff(places[order]) @ np.abs(apart, out=apart)
    return total / PROJECTIONS
