"""The kernel of the kernel distance (KID), and what keeps one odd image from deciding it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# a point further from the centre than this, in root mean squares of typical points, counts as being there
LIMIT = 3.0


def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x . y / D + 1)^3 for all pairs of points (N, D) and (M, D): (N, M) (Binkowski et al. 2018, section 4)."""
    values: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
    return values


def capped(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, D) of mean square 1, those beyond `LIMIT` moved to it along their direction.

    The kernel is cubic: without a limit a single image far away outweighs hundreds of others.
    """
    size: NDArray[np.float64] = np.sqrt(np.square(x).mean(axis=1, keepdims=True))
    return x * (LIMIT / np.maximum(LIMIT, size))
