"""Do the descriptors of synthetic cells have the spread of real ones, and do they go together as in real ones.

Each distance stands beside its floor, the distance of other real people's cells from the same unseen cells, and its
rank among distances between groups of real people: with people so different, that two samples differ says little.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import energy_distance, false_discovery_control, ks_2samp, rankdata
from tqdm.auto import tqdm

from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.descriptors.describe import DESCRIPTORS
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import compared_groups, in_group
from malaria_diffusion.statistics.permutation import rank_p, resplit_people

PERMUTATIONS = 1000
RESPLITS = 200
_Owners = NDArray[np.str_] | NDArray[np.integer]
_Weights = NDArray[np.float64] | NDArray[np.bool_]

SIDES = ("real", "floor", "synthetic")


class Associations(NamedTuple):
    """How descriptors go together.

    Attributes:
        correlations: group, side, first, second, and spearman of the two descriptors, for every pair.
        differences: One row a group: difference (mean absolute difference between the correlations of unseen and of
            synthetic cells, over all pairs), low, high, floor (that of other real people's cells), and the pair that
            differs most, first and second, with its correlations real_spearman, synthetic_spearman and floor_spearman.
    """

    correlations: pd.DataFrame
    differences: pd.DataFrame


def distance_tests(
    described: dict[str, pd.DataFrame],
    cells: dict[str, pd.DataFrame],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Test each descriptor of synthetic cells against unseen real ones, in all cells and in each class.

    Cells without foreground are counted and left out.

    Args:
        described: For "real" (unseen), "floor" (real cells of other people) and "synthetic", `descriptors.describe`.
        cells: For each side one row a cell, with the columns label and person (unused for synthetic ones).
        bootstrap: Of the interval (real cells by person, synthetic ones by image); as many draws of
            the rank, but 200 of these at least.

    Returns:
        One row for each descriptor and group:

        * ks: Kolmogorov-Smirnov statistic, 0 (alike) to 1 (disjoint), with its interval low to high. Resampling adds
          differences of its own to a measure that is never negative, so the interval lies rather high.
        * energy: energy distance (Szekely & Rizzo 2013) in standard deviations of the unseen cells.
        * p: of the statistic among 1,000 permutations of the images; it takes images of a person for independent, so
          that it is too small also for real against real. p_adjusted: the same for all rows, after Benjamini & Hochberg
          (1995).
        * floor_ks, floor_energy, floor_p: the same of other real people's cells.
        * rank_p: share of distances between two groups of real people that are as large as ks, see `resplit_people`;
          NaN where there are too few people to tell. And rank_p_adjusted.
        * real_cells, floor_cells, synthetic_cells: used; real_empty, floor_empty, synthetic_empty: left out.

    Raises:
        UserError: a side lacks a class or has fewer than two cells of it.
    """
    names = [name for name in DESCRIPTORS if name in described["real"]]
    rows: list[dict[str, object]] = []
    groups = _groups(described, cells)
    with tqdm(total=len(groups) * len(names), desc="testing descriptors", unit="test") as bar:
        for group in groups:
            values, of, empty = _chosen(described, cells, group)
            counts = {f"{side}_cells": len(values[side]) for side in SIDES} | {
                f"{side}_empty": empty[side] for side in SIDES
            }
            by_person = bootstrap.weights(of["real"]["person"].to_numpy(dtype=str))
            by_image = bootstrap.weights(np.arange(len(values["synthetic"])))
            split = resplit_people(
                of["real"],
                of["floor"],
                of["synthetic"]["label"].to_numpy(dtype=str),
                max(RESPLITS, bootstrap.resamples),
                bootstrap.rng,
            )
            shuffles = {
                side: _shuffles(len(values["real"]), len(values[side]), bootstrap.rng)
                for side in ("synthetic", "floor")
            }
            for name in names:
                real, floor, synthetic = (values[side][name].to_numpy(dtype=float) for side in SIDES)
                ks = _statistic(real, synthetic)
                drawn = _ks(real, by_person, synthetic, by_image)
                rank = np.nan
                if split is not None:
                    pool = np.concatenate([real, floor])
                    rank = rank_p(ks, _ks(pool, split.unseen, pool, split.rest))
                low, high = bootstrap.interval(drawn)
                scale = real.std() or np.concatenate([real, synthetic]).std() or 1.0
                rows.append(
                    {"descriptor": name, "group": group, "ks": ks, "low": low, "high": high}
                    | {"energy": energy_distance(real / scale, synthetic / scale)}
                    | {"p": _permutation_p(real, synthetic, shuffles["synthetic"])}
                    | {"floor_ks": _statistic(real, floor)}
                    | {"floor_energy": energy_distance(real / scale, floor / scale)}
                    | {"floor_p": _permutation_p(real, floor, shuffles["floor"])}
                    | {"rank_p": rank}
                    | counts
                )
                bar.update()
    table = pd.DataFrame(rows)
    for p in ("rank_p", "p"):
        adjusted = table[p].dropna()
        adjusted[:] = false_discovery_control(adjusted) if len(adjusted) else []
        table.insert(list(table.columns).index(p) + 1, f"{p}_adjusted", adjusted)  # by row, else NaN
    return table


def associations(
    described: dict[str, pd.DataFrame],
    cells: dict[str, pd.DataFrame],
    bootstrap: Bootstrap,
) -> Associations:
    """Compare the rank correlations (Spearman) between descriptors of real and of synthetic cells.

    A descriptor that is constant on a side has correlation 0 there. As in `distance_tests`, cells without foreground
    are left out and intervals lie rather high.

    Args:
        described: See `distance_tests`.
        cells: See there.
        bootstrap: Of people for real cells and of images for synthetic ones.

    Raises:
        UserError: see there.
    """
    names = [name for name in DESCRIPTORS if name in described["real"]]
    pairs = list(combinations(range(len(names)), 2))
    firsts, seconds = np.array(pairs).T
    correlations, differences = [], []
    for group in tqdm(_groups(described, cells), desc="comparing associations", unit="group"):
        values, of, _ = _chosen(described, cells, group)
        tables = {side: values[side][names].to_numpy(dtype=float) for side in SIDES}
        found = {side: _spearman(table)[firsts, seconds] for side, table in tables.items()}
        people = of["real"]["person"].to_numpy(dtype=str)
        owners: dict[str, _Owners] = {"real": people, "synthetic": np.arange(len(tables["synthetic"]))}
        drawn = {
            side: [_spearman(tables[side][rows])[firsts, seconds] for rows in _resampled(owner, bootstrap)]
            for side, owner in owners.items()
        }
        apart = np.abs(np.array(drawn["real"]) - np.array(drawn["synthetic"])).mean(axis=1)
        low, high = bootstrap.interval(apart)
        gap = np.abs(found["real"] - found["synthetic"])
        worst = int(gap.argmax())
        differences.append(
            {"group": group, "difference": gap.mean(), "low": low, "high": high}
            | {"floor": np.abs(found["real"] - found["floor"]).mean()}
            | {"first": names[firsts[worst]], "second": names[seconds[worst]]}
            | {f"{side}_spearman": found[side][worst] for side in ("real", "synthetic", "floor")}
        )
        correlations += [
            {"group": group, "side": side, "first": names[i], "second": names[j], "spearman": value}
            for side in SIDES
            for (i, j), value in zip(pairs, found[side], strict=True)
        ]
    return Associations(pd.DataFrame(correlations), pd.DataFrame(differences))


def _groups(described: dict[str, pd.DataFrame], cells: dict[str, pd.DataFrame]) -> list[str]:
    """See `compared_groups`; refuses what cannot be compared."""
    classes = sorted({label for side in SIDES for label in cells[side]["label"]})
    for side in SIDES:
        if len(described[side]) != len(cells[side]):
            raise UserError(f"{len(described[side])} {side} cells are described, but {len(cells[side])} are labelled")
        if described[side].isna().any(axis=None):
            raise UserError(f"descriptors of {side} cells hold missing values; make them with descriptors.describe")
        usable = cells[side].loc[~described[side]["empty"].to_numpy(), "label"].value_counts()
        for label in classes:
            if usable.get(label, 0) < 2:
                raise UserError(
                    f"{usable.get(label, 0)} {side} cells of class {label!r} have a foreground, expected at least 2; "
                    "raise validation.comparison.n, or check validation.comparison.foreground_threshold"
                )
    return compared_groups(cells["real"]["label"])


def _chosen(
    described: dict[str, pd.DataFrame], cells: dict[str, pd.DataFrame], group: str
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame], dict[str, int]]:
    """A group's descriptors and rows of the table on each side; and how many cells are left out."""
    values, of, empty = {}, {}, {}
    for side in SIDES:
        member = in_group(cells[side]["label"], group)
        nothing = described[side]["empty"].to_numpy(dtype=bool)
        values[side], of[side] = described[side][member & ~nothing], cells[side][member & ~nothing]
        empty[side] = int((member & nothing).sum())
    return values, of, empty


def _shuffles(first: int, second: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Permutations (1000, first + second) of who belongs to the first sample."""
    return rng.permuted(np.broadcast_to(np.arange(first + second) < first, (PERMUTATIONS, first + second)), axis=1)


def _permutation_p(first: NDArray[np.float64], second: NDArray[np.float64], shuffles: NDArray[np.bool_]) -> float:
    pool = np.concatenate([first, second])
    observed = _statistic(first, second)
    return rank_p(observed, _ks(pool, shuffles, pool, ~shuffles))


def _statistic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(ks_2samp(first, second, method="asymp").statistic)  # the library's exact p is not needed


def _ks(
    first: NDArray[np.float64], first_weight: _Weights, second: NDArray[np.float64], second_weight: _Weights
) -> NDArray[np.float64]:
    """Kolmogorov-Smirnov statistics (R,) of two samples under R weightings each: (R, N) and (R, M)."""
    grid = np.union1d(first, second)
    apart = np.abs(_cumulative(first, first_weight, grid) - _cumulative(second, second_weight, grid))
    largest: NDArray[np.float64] = apart.max(axis=1)
    return largest


def _cumulative(values: NDArray[np.float64], weight: _Weights, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    order = values.argsort()
    sums = np.zeros((len(weight), len(values) + 1))
    np.cumsum(weight[:, order], axis=1, out=sums[:, 1:])
    return sums[:, np.searchsorted(values[order], grid, side="right")] / sums[:, -1:]


def _resampled(owner: _Owners, bootstrap: Bootstrap) -> Iterator[NDArray[np.int64]]:
    """Rows of bootstrap resamples of the owners' cells."""
    for weight in bootstrap.weights(owner):
        yield np.repeat(np.arange(len(owner)), weight.astype(int))


def _spearman(table: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks = rankdata(table, axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.sqrt(np.square(ranks).sum(axis=0))
    ranks /= np.where(length > 0, length, 1)
    return ranks.T @ ranks
