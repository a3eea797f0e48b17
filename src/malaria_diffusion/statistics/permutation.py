"""Tests and effect sizes whose unit is the image or the person, not the pixel.

The pixels of one image are alike, and so are the images of one person. A test that counts pixels as independent draws
therefore rejects real against real. Here images are permuted, which allows for the first, and people are resplit,
which allows for the second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import false_discovery_control

SPARSE = 5
# with fewer the rank rejects true nulls too often: 9 % instead of 5 % with 5 and 5 people
FEWEST_ON_A_SIDE = 5
FEWEST_PEOPLE = 20
AT_ONCE = 250
FAMILIES = ("image_chi2", "image_g", "resplit")


def joined_bins(counts: NDArray[np.number], share: float) -> NDArray[np.int64]:
    """Where to cut a histogram so that each part expects at least 5 counts on the smaller side.

    Args:
        counts: (bins,), both sides together.
        share: Of the smaller side in all counts.

    Returns:
        The first bin of each part, for `np.add.reduceat`; what is left at the end belongs to the last part.
    """
    starts, waiting = [0], 0.0
    for place, count in enumerate(counts):
        waiting += float(count)
        if waiting * share >= SPARSE:
            starts.append(place + 1)
            waiting = 0.0
    return np.array(starts[:-1] or [0])


def cramers_v(first: NDArray[np.number], second: NDArray[np.number]) -> NDArray[np.float64]:
    """Cramer's V of two histograms (..., bins) as if both had the same total: 0 (alike) to 1 (disjoint)."""
    p, q = _shares(first), _shares(second)
    either = np.where(p + q > 0, p + q, 1)
    square: NDArray[np.float64] = ((p - q) ** 2 / either).sum(axis=-1) / 2
    return np.sqrt(square)


def jensen_shannon(first: NDArray[np.number], second: NDArray[np.number]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence of two histograms (..., bins) in bits: 0 (alike) to 1 (disjoint).

    The square of scipy's `jensenshannon` to base 2, which is not a number where rounding makes equal shares differ.
    """
    p, q = _shares(first), _shares(second)
    middle = (p + q) / 2
    apart: NDArray[np.float64] = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / (2 * np.log(2))
    return np.clip(apart, 0, 1)


def statistics(first: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's chi-square and the log-likelihood ratio of `first` against the rest of `total`.

    Args:
        first: (N, bins).
        total: (bins,), no bin empty.

    Returns:
        (2, N); 0 where one side is empty.
    """
    second = total - first
    expected = np.outer(first.sum(axis=1), total / total.sum())
    rest = total - expected
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = ((first - expected) ** 2 * (1 / expected + 1 / rest)).sum(axis=1)
    likelihood = 2 * (rel_entr(first, expected) + rel_entr(second, rest)).sum(axis=1)
    both = (first.sum(axis=1) > 0) & (second.sum(axis=1) > 0)
    return np.where(both, [pearson, likelihood], 0)


def permutation_p(
    real: NDArray[np.integer],
    real_labels: NDArray[np.str_],
    synthetic: NDArray[np.integer],
    synthetic_labels: NDArray[np.str_],
    permutations: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """p-values of chi-square and likelihood ratio of the summed histograms when images change sides at random.

    Images change sides within their class. Valid for any number of pixels and however alike the pixels of an image;
    it takes the images of a class as independent, which those of one person are not (see `resplit_people`).
    scipy's `permutation_test` knows no classes.

    Args:
        real: (N, bins), a histogram an image.
        real_labels: (N,), their classes.
        synthetic: (M, bins).
        synthetic_labels: (M,).
        permutations: Random exchanges; the smallest p-value is 1 / (1 + permutations).
        rng: Source of the permutations.

    Returns:
        p of the chi-square and of the likelihood ratio, each in (0, 1]; 1 if one bin holds everything.
    """
    images = np.concatenate([real, synthetic]).astype(np.float64)
    labels = np.concatenate([real_labels, synthetic_labels])
    is_real = np.arange(len(images)) < len(real)
    # the share of images, unlike that of pixels, is the same in every permutation, so the bins are as well
    share = min(len(real), len(synthetic)) / len(images)
    images = np.add.reduceat(images, joined_bins(images.sum(axis=0), share), axis=1)
    total = images.sum(axis=0)
    observed = statistics(is_real[None] @ images, total)
    as_large = np.zeros(2)
    for start in range(0, permutations, AT_ONCE):
        sides = permuted_within(is_real, labels, min(AT_ONCE, permutations - start), rng)
        as_large += _at_least(statistics(sides @ images, total), observed).sum(axis=1)
    chi2_p, g_p = (1 + as_large) / (1 + permutations)
    return float(chi2_p), float(g_p)


class Resplits(NamedTuple):
    """Weights of all real cells in two groups of people, (R, N + M): 0 for cells of people who are in the other."""

    unseen: NDArray[np.float64]
    rest: NDArray[np.float64]


def resplit_people(
    real: pd.DataFrame, other: pd.DataFrame, synthetic_labels: NDArray[np.str_], number: int, rng: np.random.Generator
) -> Resplits | None:
    """Two groups of real people, formed anew at random from all real people at hand.

    One group has as many people as there are unseen ones, the other has the rest, as a model stands for the many
    people it learned from. People are exchanged with those who have cells of the same classes, so neither group ever
    lacks a class, and each class weighs as much as it does among the cells that are compared. Someone on both sides
    (a split by image) counts as two people.

    Args:
        real: N rows with label and person, of the unseen cells.
        other: M rows, of other people's cells.
        synthetic_labels: Classes of the synthetic cells: the weights of the classes in the second group.
        number: Random splits R.
        rng: Source of the splits.

    Returns:
        None if one side has fewer than 5 people or both have fewer than 20, which is too few to tell how much people
        differ.
    """
    keys = [cells["person"].astype(str).to_numpy() for cells in (real, other)]
    names, owners = zip(*(np.unique(key, return_inverse=True) for key in keys), strict=True)
    first, second = (len(part) for part in names)
    if min(first, second) < FEWEST_ON_A_SIDE or first + second < FEWEST_PEOPLE:
        return None
    owner = np.concatenate([owners[0], owners[1] + first])
    classes, label = np.unique(np.concatenate([real["label"], other["label"]]), return_inverse=True)
    counts = np.zeros((first + second, len(classes)))
    np.add.at(counts, (owner, label), 1)
    kind = np.unique(counts > 0, axis=0, return_inverse=True)[1].ravel()
    sides = permuted_within(np.arange(first + second) < first, kind, number, rng)
    weights = []
    for chosen, labels in ((sides, real["label"]), (~sides, synthetic_labels)):
        of_class = pd.Series(labels).value_counts().reindex(classes).to_numpy() / (chosen @ counts)
        weights.append(chosen[:, owner] * of_class[:, label])
    return Resplits(*weights)


def rank_p(observed: float, drawn: NDArray[np.float64]) -> float:
    """Share of distances, the observed one among them, that are at least as large as it is; in (0, 1]."""
    return float((1 + _at_least(drawn, np.array([observed])).sum()) / (1 + len(drawn)))


def with_q_values(tests: pd.DataFrame) -> pd.DataFrame:
    """Add q-values (Benjamini-Hochberg) to a table of tests.

    Every row belongs to the family, so tables must be joined before. The three p-values ask three questions, and each
    makes a family of its own.

    Args:
        tests: Rows of `results_table`, with image_chi2_p, image_g_p and resplit_p.

    Returns:
        The same with image_chi2_q, image_g_q and resplit_q.
    """
    return tests.assign(**{f"{name}_q": false_discovery_control(tests[f"{name}_p"]) for name in FAMILIES})


def permuted_within(
    sides: NDArray[np.bool_], strata: NDArray[np.generic], number: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """`sides` (N,) shuffled `number` times within each stratum (N,): (number, N)."""
    result = np.empty((number, len(sides)), dtype=bool)
    for stratum in np.unique(strata):
        where = np.flatnonzero(strata == stratum)
        result[:, where] = rng.permuted(np.tile(sides[where], (number, 1)), axis=1)
    return result


def _shares(histograms: NDArray[np.number]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = histograms / histograms.sum(axis=-1, keepdims=True)
    return shares


def _at_least(values: NDArray[np.float64], observed: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether values (..., N) reach the observed ones (...); equal splits count as equal in spite of rounding."""
    return values >= observed - 1e-9 * np.maximum(observed, 1)
