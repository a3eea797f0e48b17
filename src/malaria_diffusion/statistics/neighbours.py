"""Precision, recall, density and coverage, with intervals that find the neighbourhoods anew.

Who is whose neighbour depends on everybody, so that resampling what each image adds to a mean makes intervals that are
too short: 0.7 to 0.87 of those at 0.95 hold. People are left out in turn
instead, with the neighbourhoods of those who remain. Distances are measured once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.bootstrap import Interval
from malaria_diffusion.statistics.jackknife import (
    FEW_GROUPS,
    effective_number,
    half_width,
    left_out_variance,
    share_interval,
)

# Naeem et al. 2020, section 4.1
NEIGHBOURS = 5
FEWEST = NEIGHBOURS + 2  # images on a side
SHARES = ("precision", "recall", "coverage")  # from 0 to 1, as density is not
FEWEST_FOR_A_LINE = 5  # a line through two people would leave nothing that they vary by


class Owned(NamedTuple):
    """Images and whose they are.

    Attributes:
        features: (N, d).
        owner: (N,), 0 to P - 1: the person of a real cell, the image itself of a synthetic one.
    """

    features: NDArray[np.float64]
    owner: NDArray[np.intp]

    @property
    def group(self) -> NDArray[np.intp]:
        """(N,), 0 to G - 1: of the images that are left out together, owners whole."""
        return self.owner % FEW_GROUPS

    @property
    def people(self) -> float:
        """Of as many images each who would tell as much; no more than are left out in turn."""
        return min(effective_number(np.bincount(self.owner)), FEW_GROUPS)


class LeftOut(NamedTuple):
    """Scores, by name, of all images and without some.

    Attributes:
        all: Of all.
        real: Without each group of real ones, (G,).
        other: Without each group of the others, (H,).
        real_people: See `Owned.people`.
        other_people: The same of the others.
    """

    all: dict[str, float]
    real: dict[str, NDArray[np.float64]]
    other: dict[str, NDArray[np.float64]]
    real_people: float
    other_people: float


class Scored(NamedTuple):
    """A score of synthetic images, of the floor, and the difference, each with its interval."""

    value: tuple[float, Interval]
    floor: tuple[float, Interval]
    difference: tuple[float, Interval]


def neighbour_scores(
    real: NDArray[np.float64], other: NDArray[np.float64], neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Each is a mean over images: of `other` (M, d) for precision and density, of `real` (N, d) for recall and coverage.

    Raises:
        UserError: too few images for so many neighbours.
    """
    return _Neighbourhoods(real, other, neighbours).scores()


def left_out_scores(real: Owned, other: Owned, neighbours: int = NEIGHBOURS) -> LeftOut:
    """The scores of all images, and without each person or group of images in turn.

    Raises:
        UserError: too few images for so many neighbours.
    """
    found = _Neighbourhoods(real.features, other.features, neighbours)
    return LeftOut(
        found.scores(),
        _of_this_size([found.without_real(real.group == one) for one in range(real.group.max() + 1)], real.group),
        _of_this_size([found.without_other(other.group == one) for one in range(other.group.max() + 1)], other.group),
        real.people,
        other.people,
    )


def scored(synthetic: LeftOut, floor: LeftOut, confidence: float) -> dict[str, Scored]:
    """Intervals of what the scores are on average over new people, of as many people and images.

    Real cells are common to both, so that the difference varies with what they do to it alone. The jackknife errs on
    the wide side here, as neighbourhoods depend on everybody: 0.92 to 1 of those at 0.95 hold (benchmarks/coverage.py).

    Args:
        synthetic: Of synthetic images against real ones.
        floor: Of real cells of other people against the same real ones.
        confidence: Of the intervals.
    """
    found = {}
    for name in synthetic.all:
        values = []
        for side in (synthetic, floor):
            reach = half_width([_part(side.real[name], side.real_people), _other_part(side, name)], confidence)
            value, people = side.all[name], min(side.real_people, side.other_people)
            around = Interval(max(0.0, value - reach), value + reach)
            values.append((value, share_interval(value, reach, people, confidence) if name in SHARES else around))
        shared = _part(synthetic.real[name] - floor.real[name], synthetic.real_people)
        reach = half_width([shared, _other_part(synthetic, name), _other_part(floor, name)], confidence)
        apart = synthetic.all[name] - floor.all[name]
        found[name] = Scored(values[0], values[1], (apart, Interval(apart - reach, apart + reach)))
    return found


class _Balls:
    """About each image of one side, as far as its k-th nearest of that side, and which images of the other are in it.

    Attributes:
        radii: (N,).
        reached: By how many balls each of the others is, (M,).
    """

    def __init__(self, within: NDArray[np.float64], across: NDArray[np.float64], neighbours: int) -> None:
        np.fill_diagonal(within, np.inf)
        self._within, self._across, self._neighbours = within, across, neighbours
        self._nearest = np.argpartition(within, neighbours - 1, axis=1)[:, :neighbours]
        self.radii = np.take_along_axis(within, self._nearest, axis=1).max(axis=1)
        self._inside = across < self.radii[:, None]
        self.reached = self._inside.sum(axis=0)

    def without(self, gone: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Radii and `reached` without the images `gone` (N,): of the others, who lost a neighbour has a larger ball.

        One for whom too few remain has a ball without end.
        """
        grown = np.flatnonzero(~gone & gone[self._nearest].any(axis=1))
        radii, farthest = self.radii.copy(), min(self._neighbours, int((~gone).sum())) - 1
        radii[grown] = np.partition(self._within[np.ix_(grown, ~gone)], farthest, axis=1)[:, farthest]
        before = np.concatenate([np.flatnonzero(gone), grown])
        reached = self.reached - self._inside[before].sum(axis=0)
        return radii, reached + (self._across[grown] < radii[grown, None]).sum(axis=0)


class _Neighbourhoods:
    """Balls about real images and about others."""

    def __init__(self, real: NDArray[np.float64], other: NDArray[np.float64], neighbours: int) -> None:
        from sklearn.metrics import pairwise_distances

        fewest = min(len(real), len(other))
        if fewest < neighbours + 2:
            raise UserError(f"{fewest} images; {neighbours + 2} are needed for {neighbours} neighbours: raise n")
        self._neighbours = neighbours
        self._across = pairwise_distances(real, other)
        self._real = _Balls(pairwise_distances(real), self._across, neighbours)
        self._other = _Balls(pairwise_distances(other), np.ascontiguousarray(self._across.T), neighbours)
        self._nearest = self._across.argmin(axis=1)
        self._least = self._across.min(axis=1)

    def scores(self) -> dict[str, float]:
        return self._of(self._real.reached, self._other.reached, self._least < self._real.radii)

    def without_real(self, gone: NDArray[np.bool_]) -> dict[str, float]:
        radii, reached = self._real.without(gone)
        return self._of(reached, self._other.reached[~gone], (self._least < radii)[~gone])

    def without_other(self, gone: NDArray[np.bool_]) -> dict[str, float]:
        least, bereft = self._least.copy(), np.flatnonzero(gone[self._nearest])
        least[bereft] = self._across[np.ix_(bereft, ~gone)].min(axis=1)
        return self._of(self._real.reached[~gone], self._other.without(gone)[1], least < self._real.radii)

    def _of(
        self, others_reached: NDArray[np.intp], real_reached: NDArray[np.intp], covered: NDArray[np.bool_]
    ) -> dict[str, float]:
        return {
            "precision": float((others_reached > 0).mean()),
            "recall": float((real_reached > 0).mean()),
            "density": float(others_reached.mean() / self._neighbours),
            "coverage": float(covered.mean()),
        }


def _of_this_size(without: list[dict[str, float]], group: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
    """By name, (G,), less what follows from the number of images left out alone (a line through it).

    Fewer images are farther from each other; but new people would have as many images in all, so this is none of what
    the scores vary by.
    """
    size = np.bincount(group).astype(float)
    size -= size.mean()
    if len(size) < FEWEST_FOR_A_LINE:
        size[:] = 0
    found = {}
    for name in without[0]:
        values = np.array([one[name] for one in without])
        found[name] = values - size * (size @ values) / max(float(size @ size), 1e-9)
    return found


def _part(without: NDArray[np.float64], people: float) -> tuple[float, float]:
    return left_out_variance(without), people - 1


def _other_part(side: LeftOut, name: str) -> tuple[float, float]:
    return _part(side.other[name], side.other_people)
