"""The bootstrap: how often units (people or images) are drawn again, and the interval that follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.statistics.config import ComparisonParameters


class Interval(NamedTuple):
    """Two numbers between which something is said to lie."""

    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: percentiles over resamples (Efron & Tibshirani 1993, section 13.3).

    Attributes:
        resamples: How many.
        confidence: Of the intervals, e.g. 0.95.
        rng: Source of the draws, which go on where the last ones ended.
    """

    resamples: int
    confidence: float
    rng: np.random.Generator

    @classmethod
    def of(cls, comparison: ComparisonParameters) -> Self:
        """As the parameters say, the draws from the start."""
        return cls(comparison.resamples, comparison.confidence, np.random.default_rng(comparison.seed))

    def counts(self, units: int) -> NDArray[np.int64]:
        """How often each of `units` is drawn, with replacement, in each resample: (resamples, units)."""
        return bootstrap_counts(units, self.resamples, self.rng)

    def weights(self, owners: NDArray[np.str_] | NDArray[np.integer]) -> NDArray[np.float64]:
        """How often each cell is in each resample of the owners (N,), its person or itself: (resamples, N)."""
        names, owner = np.unique(owners, return_inverse=True)
        return self.counts(len(names))[:, owner].astype(float)

    def interval(self, drawn: NDArray[np.floating]) -> Interval:
        """Between the percentiles that leave out as much on either side."""
        low, high = np.quantile(drawn, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return Interval(float(low), float(high))


def bootstrap_counts(units: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each of `units` is drawn, with replacement, in each resample: (resamples, units)."""
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples)
