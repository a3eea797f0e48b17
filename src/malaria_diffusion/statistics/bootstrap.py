"""The draw that every bootstrap here begins with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bootstrap_counts(units: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each of `units` (people or images) is drawn, with replacement, in each resample: (resamples, units)."""
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples)
