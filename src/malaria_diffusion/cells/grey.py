"""Grey images are packed as RGB with equal channels, so that one kind of network does for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 4096


def all_grey(cells: NDArray[np.uint8]) -> bool:
    """Whether the three channels of all images (N, 3, S, S) are equal; of colour images the first few are read."""
    for start in range(0, len(cells), ROWS_AT_ONCE):
        part = np.asarray(cells[start : start + ROWS_AT_ONCE])
        if (part[:, :1] != part[:, 1:]).any():
            return False
    return True
