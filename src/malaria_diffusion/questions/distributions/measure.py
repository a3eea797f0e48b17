"""Do two sets of cells have the same intensities: chi-square and KL tests, effect sizes, and a margin to judge by.

A p-value answers whether two samples differ at all, and with hundreds of thousands of pixels the answer is always
yes, for real against real too: the pixels of an image are not independent draws. `permutation` has the tests for which
the image or the person is the unit. What tells alike from unlike is the size of the difference. It is held against a
margin that was chosen before there were data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, t
from tqdm.auto import tqdm

from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.comparison import compared_groups, in_group
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.statistics.permutation import (
    FEWEST_ON_A_SIDE,
    cramers_v,
    jensen_shannon,
    joined_bins,
    permutation_p,
    rank_p,
    resplit_people,
)

CHANNELS = ("grey", "red", "green", "blue")
# ITU-R BT.601 luma
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
CELLS_AT_ONCE = 512
IMAGE_GROUPS = 25  # of synthetic cells, left out in turn


class Comparison(NamedTuple):
    """Two histograms compared.

    Attributes:
        chi2: Pearson's statistic.
        chi2_p: Its p-value; small says that the distributions differ.
        g: Log-likelihood ratio, twice the total count times the Kullback-Leibler divergence of the two-row table from
            independence.
        g_p: Its p-value.
        dof: Degrees of freedom of both.
        kl: Kullback-Leibler divergence of the second histogram from the first, in nats.
        cramers_v: Effect size, 0 (alike) to 1 (disjoint), as if both histograms had the same total: it compares
            shares, so that it does not change with the number of cells on a side.
        js: Jensen-Shannon divergence in bits, 0 (alike) to 1 (disjoint).
        bins: Bins left after sparse ones were pooled.
    """

    chi2: float
    chi2_p: float
    g: float
    g_p: float
    dof: int
    kl: float
    cramers_v: float
    js: float
    bins: int


class Effects(NamedTuple):
    """Effect sizes less their bias, with intervals.

    Attributes:
        v: Cramer's V.
        v_low: Lower end of its interval.
        v_high: Upper end.
        v_bound: What it lies below with the stated confidence, one-sided: by this it is called alike or not.
        js_low: Lower end of the interval of the Jensen-Shannon divergence, bits.
        js_high: Upper end.
    """

    v: float
    v_low: float
    v_high: float
    v_bound: float
    js_low: float
    js_high: float


def foreground(cells: NDArray[np.uint8], background: tuple[int, int, int], threshold: int) -> NDArray[np.bool_]:
    """Pixels that belong to the cell: those further than `threshold` from the background in some channel.

    Args:
        cells: uint8, (N, 3, S, S).
        background: RGB.
        threshold: Grey levels.

    Returns:
        bool, (N, S, S).
    """
    away = np.abs(cells.astype(np.int16) - np.array(background, dtype=np.int16).reshape(1, 3, 1, 1))
    mask: NDArray[np.bool_] = away.max(axis=1) > threshold
    return mask


def check_foreground(
    cells: NDArray[np.uint8], labels: pd.Series, background: tuple[int, int, int], threshold: int
) -> None:
    """Make sure that most cells of every class have a foreground; without one they are left out of comparisons.

    Args:
        cells: uint8, (N, 3, S, S); of each class as many are looked at as tell.
        labels: Their classes.
        background: See `foreground`.
        threshold: See `foreground`.

    Raises:
        UserError: more than half of a class's cells have none.
    """
    places = pd.Series(np.arange(len(cells)), index=labels.to_numpy())
    for label, rows in places.groupby(level=0):
        looked_at = cells[rows.iloc[:: max(1, len(rows) // CELLS_AT_ONCE)].to_numpy()]
        empty = np.count_nonzero(~foreground(looked_at, background, threshold).any(axis=(1, 2)))
        if empty > 0.5 * len(looked_at):
            raise UserError(
                f"validation.comparison.foreground_threshold is {threshold}, but {empty} of {len(looked_at)} cells "
                f"of class {label!r} differ from the background {background} by no more than that anywhere: lower it, "
                "correct data_processing.packing.background, or set -1 if the images have no background"
            )


def intensity_histograms(
    cells: NDArray[np.uint8], bins: int, background: tuple[int, int, int], threshold: int
) -> dict[str, NDArray[np.int64]]:
    """Histogram of each cell's foreground, by channel.

    Args:
        cells: uint8, (N, 3, S, S).
        bins: Equal bins over 0 to 255.
        background: See `foreground`.
        threshold: See `foreground`.

    Returns:
        int64, (N, bins), for "grey", "red", "green" and "blue".
    """
    result = {channel: np.zeros((len(cells), bins), dtype=np.int64) for channel in CHANNELS}
    for start in range(0, len(cells), CELLS_AT_ONCE):
        part = np.asarray(cells[start : start + CELLS_AT_ONCE])
        mask = foreground(part, background, threshold)
        owner = np.broadcast_to(np.arange(len(part)).reshape(-1, 1, 1), mask.shape)[mask]
        grey = np.tensordot(part.astype(np.float32), LUMA, axes=(1, 0)).round().astype(np.uint8)
        for channel, values in zip(CHANNELS, (grey, part[:, 0], part[:, 1], part[:, 2]), strict=True):
            place = owner * bins + values[mask].astype(np.int64) * bins // 256
            counts = np.bincount(place, minlength=len(part) * bins)
            result[channel][start : start + len(part)] = counts.reshape(len(part), bins)
    return result


def score_histograms(scores: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """One count a cell, in the bin of its score in [0, 1]: here the image is the unit. Shape (N, bins)."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    counts: NDArray[np.int64] = np.eye(bins, dtype=np.int64)[place]
    return counts


def compare(first: NDArray[np.integer], second: NDArray[np.integer]) -> Comparison:
    """Test two histograms (bins,) for the same distribution.

    Neighbouring bins are pooled until the counts expected under equality are at least 5. For the divergence half a
    count is added to every bin, as a bin that one side lacks would make it infinite.

    Raises:
        UserError: a histogram is empty.
    """
    if first.sum() == 0 or second.sum() == 0:
        raise UserError(
            f"nothing to compare: the histograms hold {int(first.sum())} and {int(second.sum())} values; are the cells "
            "all background? Check validation.comparison.foreground_threshold"
        )
    table = np.stack([first, second]).astype(np.float64)
    table = np.add.reduceat(table, _bins_of(first, second), axis=1)
    if table.shape[1] < 2:  # one bin holds everything, or there is too little to tell
        return Comparison(0.0, 1.0, 0.0, 1.0, 0, 0.0, 0.0, 0.0, table.shape[1])
    pearson = chi2_contingency(table, correction=False)
    likelihood = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    p, q = (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
    return Comparison(
        chi2=float(pearson.statistic),
        chi2_p=float(pearson.pvalue),
        g=float(likelihood.statistic),
        g_p=float(likelihood.pvalue),
        dof=int(pearson.dof),
        kl=float((p * np.log(p / q)).sum()),
        cramers_v=float(cramers_v(*table)),
        js=float(jensen_shannon(*table)),
        bins=table.shape[1],
    )


def effect_sizes(
    real: NDArray[np.integer],
    people: NDArray[np.str_],
    others: NDArray[np.integer],
    confidence: float,
    of: NDArray[np.str_] | None = None,
) -> Effects:
    """Effect sizes with intervals by a jackknife: real cells left out by person, synthetic ones by groups of images.

    Neither measure is ever negative, so that even two samples of one distribution are apart, and the more so the fewer
    people there are. Bias and error are estimated on the scale of squares, where the jackknife is nearly linear
    (Bergsma 2013 corrects V there, too), with Student's t for as many people.

    Args:
        real: (N, bins), a histogram a cell, none empty.
        people: (N,), whose cell it is, two people at least.
        others: (M, bins), none empty.
        confidence: Of the intervals and of the bound.
        of: (M,), whose cells the others are; None: synthetic ones, of nobody.
    """

    def by_owner(histograms: NDArray[np.integer], owners: NDArray[Any]) -> NDArray[np.float64]:
        names, owner = np.unique(owners, return_inverse=True)
        sums = np.zeros((len(names), histograms.shape[1]))
        np.add.at(sums, owner, histograms)
        return sums

    of_person = by_owner(real, people)
    of_group = by_owner(others, np.arange(len(others)) % IMAGE_GROUPS if of is None else of)
    fewest = len(of_person) if of is None else max(2, min(len(of_person), len(of_group)))
    first, second = of_person.sum(axis=0), of_group.sum(axis=0)

    def corrected(measure: Callable[..., NDArray[np.float64]]) -> tuple[float, float]:
        """Less its bias, and the standard error."""
        value, found, variance = float(measure(first, second)), 0.0, 0.0
        for without in (measure(first - of_person, second[None]), measure(first[None], second - of_group)):
            found += (len(without) - 1) * (float(without.mean()) - value)
            variance += (len(without) - 1) * float(without.var())
        return value - found, float(np.sqrt(variance))

    both, above = (float(t.ppf(level, fewest - 1)) for level in ((1 + confidence) / 2, confidence))
    square, error = corrected(lambda one, other: cramers_v(one, other) ** 2)
    v = np.sqrt(np.clip(square + np.array([0, -both, both, above]) * error, 0, 1))
    divergence, error = corrected(jensen_shannon)
    js = np.clip(divergence + np.array([-both, both]) * error, 0, 1)
    return Effects(*v.tolist(), *js.tolist())


def alike(bins: int, people: int, bound: float, margin: float) -> str:
    """The verdict: "alike" only if even the upper bound of the difference lies within the margin.

    One bin tells nothing, nor do a few people.
    """
    if bins < 2 or people < FEWEST_ON_A_SIDE:
        return "cannot tell"
    return "alike" if bound <= margin else "not shown to be alike"


def results_table(
    histograms: dict[str, dict[str, NDArray[np.int64]]],
    cells: dict[str, pd.DataFrame],
    parameters: ComparisonParameters,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Every test of synthetic against unseen real cells, with its floor, intervals, verdict and ranks.

    Cells without any foreground have no intensities to compare; they are left out and counted. `with_q_values` adds
    q-values to the joined tables of all variables.

    Args:
        histograms: For "real" (unseen), "floor" (real cells of other people) and "synthetic", by variable, a
            histogram a cell (N, bins).
        cells: For each side one row a cell, with the columns label and person (unused for synthetic ones).
        parameters: The permutations, the confidence and the margin.
        rng: Source of everything random.

    Returns:
        One row for each variable and group ("all", then each class): the `Comparison` of real with synthetic cells,
        image_chi2_p and image_g_p, the `Effects`, the same of real with real cells (prefix floor_), resplit_p,
        margin and verdict, and how many cells without foreground were left out (empty_real, empty_floor,
        empty_synthetic).
        With too few people to resplit, resplit_p is 1; of fewer than 5 the verdict is "cannot tell".

    Raises:
        UserError: a side has no cell with foreground of a class that another side has.
    """
    rows = []
    groups = compared_groups(cells["real"]["label"])
    with tqdm(total=len(groups) * len(histograms["real"]), desc="comparing distributions", unit="test") as bar:
        for variable in histograms["real"]:
            filled = {side: histograms[side][variable].sum(axis=1) > 0 for side in cells}
            _check_classes({side: table[filled[side]] for side, table in cells.items()})
            for group in groups:
                inside = {side: in_group(table["label"], group) for side, table in cells.items()}
                chosen = {side: inside[side] & filled[side] for side in cells}
                real, floor, synthetic = (
                    histograms[side][variable][chosen[side]] for side in ("real", "floor", "synthetic")
                )
                of = {side: table[chosen[side]] for side, table in cells.items()}
                found = compare(real.sum(axis=0), synthetic.sum(axis=0))
                against_floor = compare(real.sum(axis=0), floor.sum(axis=0))._asdict()
                labels = {side: table["label"].to_numpy(dtype=str) for side, table in of.items()}
                image_p = permutation_p(
                    real, labels["real"], synthetic, labels["synthetic"], parameters.permutations, rng
                )
                floor_image_p = permutation_p(
                    real, labels["real"], floor, labels["floor"], parameters.permutations, rng
                )
                # every draw is measured in the bins of the comparison itself
                starts = _bins_of(real.sum(axis=0), synthetic.sum(axis=0))
                real, floor, synthetic = (np.add.reduceat(part, starts, axis=1) for part in (real, floor, synthetic))
                people = of["real"]["person"].to_numpy(dtype=str)
                effects = effect_sizes(real, people, synthetic, parameters.confidence)
                floor_people = of["floor"]["person"].to_numpy(dtype=str)
                floor_effects = effect_sizes(real, people, floor, parameters.confidence, floor_people)
                split = resplit_people(of["real"], of["floor"], labels["synthetic"], parameters.permutations, rng)
                resplit_p = 1.0
                if split is not None:
                    pool = np.concatenate([real, floor])
                    apart = cramers_v(split.unseen @ pool, split.rest @ pool)
                    resplit_p = rank_p(found.cramers_v, apart)
                number = len(np.unique(people))
                rows.append(
                    {"variable": variable, "group": group}
                    | found._asdict()
                    | effects._asdict()
                    | {
                        "image_chi2_p": image_p[0],
                        "image_g_p": image_p[1],
                        "floor_image_chi2_p": floor_image_p[0],
                        "floor_image_g_p": floor_image_p[1],
                        "resplit_p": resplit_p,
                        "margin": parameters.margin,
                        "verdict": alike(found.bins, number, effects.v_bound, parameters.margin),
                    }
                    | {f"floor_{name}": value for name, value in (against_floor | floor_effects._asdict()).items()}
                    | {f"empty_{side}": int((inside[side] & ~filled[side]).sum()) for side in cells}
                )
                bar.update()
    return pd.DataFrame(rows)


def _check_classes(cells: dict[str, pd.DataFrame]) -> None:
    counts = {
        side: {str(label): count for label, count in table["label"].value_counts().items()}
        for side, table in cells.items()
    }
    for side, found in counts.items():
        missing = set().union(*counts.values()) - set(found)
        if missing:
            raise UserError(
                f"no {side} cell of class {', '.join(map(repr, sorted(missing)))} with foreground (found {counts}); "
                "generate every class with diffusion.sampling.count, take enough cells with validation.comparison.n, "
                "and check validation.comparison.foreground_threshold"
            )


def _bins_of(first: NDArray[np.number], second: NDArray[np.number]) -> NDArray[np.int64]:
    """Cuts after which the counts expected of both histograms (bins,) are large enough."""
    totals = float(first.sum()), float(second.sum())
    return joined_bins(first + second, min(totals) / sum(totals))
