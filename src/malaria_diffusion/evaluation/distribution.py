"""Do two sets of cells have the same intensities: chi-square and KL tests, effect sizes, and a margin to judge by.

A p-value answers whether two samples differ at all, and with hundreds of thousands of pixels the answer is always
yes, for real against real too: the pixels of an image are not independent draws. What tells alike from unlike is
the size of the difference. It is held against the differences among real people: the margin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency
from tqdm.auto import tqdm

from malaria_diffusion.errors import UserError

SPARSE = 5
CHANNELS = ("grey", "red", "green", "blue")
# ITU-R BT.601 luma
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
CELLS_AT_ONCE = 512


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
        bins: Bins left after sparse ones were pooled.
    """

    chi2: float
    chi2_p: float
    g: float
    g_p: float
    dof: int
    kl: float
    cramers_v: float
    bins: int


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
    return away.max(axis=1) > threshold


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
    return np.eye(bins, dtype=np.int64)[place]


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
    table = _pool(np.stack([first, second]).astype(np.float64))
    if table.shape[1] < 2:  # one bin holds everything, or there is too little to tell
        return Comparison(0.0, 1.0, 0.0, 1.0, 0, 0.0, 0.0, table.shape[1])
    pearson = chi2_contingency(table, correction=False)
    likelihood = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    shares = table / table.sum(axis=1, keepdims=True)
    p, q = (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
    return Comparison(
        chi2=float(pearson.statistic),
        chi2_p=float(pearson.pvalue),
        g=float(likelihood.statistic),
        g_p=float(likelihood.pvalue),
        dof=int(pearson.dof),
        kl=float((p * np.log(p / q)).sum()),
        cramers_v=float(np.sqrt(((shares[0] - shares[1]) ** 2 / shares.sum(axis=0)).sum() / 2)),
        bins=table.shape[1],
    )


def effect_interval(
    real: NDArray[np.integer],
    people: NDArray[np.str_],
    synthetic: NDArray[np.integer],
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Bootstrap interval of Cramer's V: real cells resampled by person, synthetic ones by image.

    Resampling adds differences of its own to a measure that is never negative, so the interval lies rather high: it
    errs on the side of "not shown to be alike".

    Args:
        real: (N, bins), a histogram a cell.
        people: (N,), whose cell it is.
        synthetic: (M, bins).
        resamples: Bootstrap resamples.
        confidence: Of the interval.
        rng: Source of the resamples.
    """
    of_person = _sum_by(real, people)
    count, number = len(of_person), len(synthetic)
    drawn = []
    for _ in range(resamples):
        chosen = np.bincount(rng.integers(count, size=count), minlength=count) @ of_person
        others = np.bincount(rng.integers(number, size=number), minlength=number) @ synthetic
        drawn.append(compare(chosen, others).cramers_v)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def real_margin(
    unseen: NDArray[np.integer],
    unseen_people: NDArray[np.str_],
    other: NDArray[np.integer],
    other_people: NDArray[np.str_],
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> float:
    """How far real people lie from other real people: the upper quantile of Cramer's V over draws of other people.

    Each draw takes as many other people as there are unseen ones, no one twice where there are over twice as many.

    Args:
        unseen: (N, bins), histograms of the unseen real cells.
        unseen_people: (N,), whose they are.
        other: (M, bins), histograms of real cells of other people.
        other_people: (M,), whose they are.
        resamples: Draws.
        confidence: The quantile.
        rng: Source of the draws.
    """
    target = unseen.sum(axis=0)
    of_person = _sum_by(other, other_people)
    size = len(np.unique(unseen_people))
    repeat = size > len(of_person) // 2  # draws of nearly all would hardly differ
    drawn = [
        compare(target, of_person[rng.choice(len(of_person), size, replace=repeat)].sum(axis=0)).cramers_v
        for _ in range(resamples)
    ]
    return float(np.quantile(drawn, confidence))


def alike(bins: int, high: float, margin: float) -> str:
    """The verdict: "alike" only if even the upper bound of the difference lies within the margin.

    One bin tells nothing.
    """
    if bins < 2:
        return "cannot tell"
    return "alike" if high <= margin else "not shown to be alike"


def results_table(
    histograms: dict[str, dict[str, NDArray[np.int64]]],
    cells: dict[str, pd.DataFrame],
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Every test of synthetic against unseen real cells, with its floor, interval and margin.

    Args:
        histograms: For "real" (unseen), "floor" (real cells of other people) and "synthetic", by variable, a
            histogram a cell (N, bins).
        cells: For each side one row a cell, with the columns label and person (unused for synthetic ones).
        resamples: See `effect_interval` and `real_margin`.
        confidence: See there.
        rng: Source of the resamples.

    Returns:
        One row for each variable and group ("all", then each class): the `Comparison` of real with synthetic cells,
        the one of real with real cells (prefix floor_), v_low and v_high, margin, and the verdict.
    """
    rows = []
    groups = ["all", *sorted(cells["real"]["label"].unique())]
    with tqdm(total=len(groups) * len(histograms["real"]), desc="comparing distributions", unit="test") as bar:
        for variable in histograms["real"]:
            for group in groups:
                chosen = {
                    side: (group == "all") | (table["label"] == group).to_numpy() for side, table in cells.items()
                }
                real, floor, synthetic = (
                    histograms[side][variable][chosen[side]] for side in ("real", "floor", "synthetic")
                )
                people, others = (
                    cells[side].loc[chosen[side], "person"].to_numpy(dtype=str) for side in ("real", "floor")
                )
                low, high = effect_interval(real, people, synthetic, resamples, confidence, rng)
                margin = real_margin(real, people, floor, others, resamples, confidence, rng)
                found = compare(real.sum(axis=0), synthetic.sum(axis=0))
                against_floor = compare(real.sum(axis=0), floor.sum(axis=0))._asdict()
                rows.append(
                    {"variable": variable, "group": group}
                    | found._asdict()
                    | {"v_low": low, "v_high": high, "margin": margin, "verdict": alike(found.bins, high, margin)}
                    | {f"floor_{name}": value for name, value in against_floor.items()}
                )
                bar.update()
    return pd.DataFrame(rows)


def _pool(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join neighbouring columns until the expected count of each cell of the table is large enough."""
    share = table.sum(axis=1).min() / table.sum()
    columns: list[NDArray[np.float64]] = []
    waiting = np.zeros(2)
    for column in table.T:
        waiting = waiting + column
        if waiting.sum() * share >= SPARSE:
            columns.append(waiting)
            waiting = np.zeros(2)
    if columns:
        columns[-1] = columns[-1] + waiting
    else:
        columns.append(waiting)
    return np.stack(columns, axis=1)


def _sum_by(histograms: NDArray[np.integer], people: NDArray[np.str_]) -> NDArray[np.int64]:
    names, index = np.unique(people, return_inverse=True)
    total = np.zeros((len(names), histograms.shape[1]), dtype=np.int64)
    np.add.at(total, index, histograms)
    return total
