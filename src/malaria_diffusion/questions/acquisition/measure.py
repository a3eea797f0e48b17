"""How conditions of acquisition, natural and human-made, go with the positive class, with errors, with being synthetic.

File names tell when a smear was photographed, images tell stain, light and focus. All that is measured is
association: nothing here says that a condition causes anything.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.acquisition.auc import FOLDS, Groups, auc_interval, scores_of_others
from malaria_diffusion.questions.descriptors.describe import IMAGE_FACTORS
from malaria_diffusion.questions.descriptors.measure import RESPLITS, SIDES
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.permutation import resplit_people

NAME_FACTORS = ("day", "hour", "microscope")
ALL_IMAGE_FACTORS = "all image factors"
POSITIVE, ERROR = "positive class", "classifier error"
PEOPLE, WITHIN_PERSON = "people", "within person"
KEPT_COLUMNS = [
    "factor",
    *(f"{name}{part}" for name in (*SIDES, "difference") for part in ("", "_low", "_high")),
    "margin",
    "verdict",
]
# the date and time in NLM's file names, and the two microscopes they tell apart
TAKEN = r"_(\d{8}_\d{6})"
MICROSCOPE = r"(Motic|Olympus)"


class _Target(NamedTuple):
    """Two sides to tell apart: a row a cell, whose it is, whether it is on the first side, and of which sample.

    `refusal` says why the sides cannot be told apart at all, if they cannot.
    """

    table: pd.DataFrame
    unit: NDArray[np.str_]
    truth: NDArray[np.bool_]
    sample: NDArray[np.intp]
    factors: list[str]
    scopes: tuple[str, ...] = (PEOPLE, WITHIN_PERSON)
    refusal: str = ""


class Explained(NamedTuple):
    """What factors explain.

    Attributes:
        table: One row for each target, factor and scope that can be tested.
        untestable: target, factor, scope and reason of those that cannot.
    """

    table: pd.DataFrame
    untestable: pd.DataFrame


def name_factors(names: pd.Series) -> pd.DataFrame:
    """Conditions that stand in the file name, as in "C47P8thin_Original_Motic_IMG_20150619_114756_cell_179.png".

    Args:
        names: One file name a cell.

    Returns:
        One row a cell, numbers, and NaN where the name does not tell: day (since year 1), hour (with its fraction) and
        microscope (0 for Motic, 1 for Olympus).
    """
    names = names.astype(str).reset_index(drop=True)
    taken = pd.to_datetime(names.str.extract(TAKEN)[0], format="%Y%m%d_%H%M%S", errors="coerce")
    return pd.DataFrame(
        {
            "day": [np.nan if pd.isna(moment) else float(moment.toordinal()) for moment in taken],
            "hour": taken.dt.hour + taken.dt.minute / 60,
            "microscope": names.str.extract(MICROSCOPE)[0].map({"Motic": 0.0, "Olympus": 1.0}).astype(float),
        }
    )


def explained_by_factors(
    unseen: pd.DataFrame,
    floor: pd.DataFrame,
    synthetic: pd.DataFrame,
    positive_class: str | None,
    confidence: float,
    seed: int,
) -> Explained:
    """How well each factor alone, and all image factors together, tell the two sides of each target apart.

    The targets are "positive class" and "classifier error" of unseen cells, "real against synthetic" (unseen against
    synthetic cells, by image factors), and its floor "real against real" (unseen cells against those of other people).
    A logistic regression on cubic splines of the factor's ranks (so that a factor may rise and fall), both sides
    weighing the same, is fitted to four fifths of the people and scores the last fifth: a factor counts as far as it
    carries over to other people. Cells without foreground are left out.

    Args:
        unseen: One row an unseen cell: `descriptors.image_factors`, label, predicted, person, and such `name_factors`
            as there are.
        floor: Real cells of other people: `image_factors` and person.
        synthetic: Synthetic cells: `image_factors`.
        positive_class: The class that a factor may tell; None: there is none, so that this target cannot be tested.
        confidence: Of the intervals, which are for new people (of synthetic cells, images) and a model fitted to as
            many others, see `auc.auc_interval`.
        seed: Of folds.

    Returns:
        Per target, factor and scope: cells, people (of real cells), and auc with low and high: the probability that
        the score orders a pair, one of each side, rightly. 0.5 says that the factor tells nothing; below that, what
        was learned from some people is wrong for others. Scope "people": pairs of any people of the same fold. Scope
        "within person": pairs of cells of one person, whose illness, stain and slide are the same. A test needs five
        people on each side (or five with cells of both).
    """
    unseen, floor, synthetic = (_usable(table) for table in (unseen, floor, synthetic))
    errors = _errors(unseen)
    positive = (unseen["label"] == positive_class).to_numpy()
    refusal = "no class is the positive one" if positive_class is None else ""
    images = synthetic.drop(columns="person", errors="ignore")
    targets = {
        POSITIVE: errors._replace(truth=positive, refusal=refusal),
        ERROR: errors,
        "real against synthetic": _against(unseen, images),
        "real against real": _against(unseen, floor),
    }
    return _explain(targets, confidence, seed)


def explained_errors(judged: pd.DataFrame, confidence: float, seed: int) -> Explained:
    """How well each factor tells the cells that a classifier got wrong from the others, as in `explained_by_factors`.

    Args:
        judged: One row a cell: `descriptors.image_factors`, label, predicted, person, and such `name_factors` as there
            are. The classifier must not have seen the cell's person.
        confidence: Of the intervals, over people.
        seed: Of folds.
    """
    return _explain({ERROR: _errors(_usable(judged))}, confidence, seed)


def _explain(targets: dict[str, _Target], confidence: float, seed: int) -> Explained:
    rows: list[dict[str, object]] = []
    untestable: list[dict[str, object]] = []
    work = [(name, factor) for name in targets for factor in [*targets[name].factors, ALL_IMAGE_FACTORS]]
    for name, factor in tqdm(work, desc="factors", unit="factor"):
        table, unit, truth, sample, _, scopes, refusal = targets[name]
        values = table[list(IMAGE_FACTORS) if factor == ALL_IMAGE_FACTORS else [factor]].to_numpy(dtype=float)
        known = ~np.isnan(values).any(axis=1)
        values, unit, truth = values[known], unit[known], truth[known]
        reason = refusal or _reason(values, truth, unit, len(known))
        groups = Groups.make(unit, sample[known])
        scores = None if reason else scores_of_others(values, truth, groups, seed)
        for scope in scopes:
            found: dict[str, object] = {"target": name, "factor": factor, "scope": scope}
            if scope == WITHIN_PERSON and not reason:
                both = pd.DataFrame(values).assign(truth=truth).groupby(unit).nunique().gt(1)
                telling = both.pop("truth") & both.any(axis=1)
                reason = _too_few("people with cells of both sides and more than one value", telling.sum())
            if reason or scores is None:
                untestable.append(found | {"reason": reason})
                continue
            stratum = scores.fold if scope == PEOPLE else unit
            auc, (low, high) = auc_interval(scores, truth, stratum, groups, confidence)
            people = len({owner for owner in unit if not owner.startswith("synthetic ")})
            rows.append(found | {"cells": len(truth), "people": people, "auc": auc, "low": low, "high": high})
    return Explained(
        pd.DataFrame(rows, columns=["target", "factor", "scope", "cells", "people", "auc", "low", "high"]),
        pd.DataFrame(untestable, columns=["target", "factor", "scope", "reason"]),
    )


def associations_kept(
    unseen: pd.DataFrame,
    floor: pd.DataFrame,
    synthetic: pd.DataFrame,
    positive_class: str | None,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Does each image factor go with the positive class in synthetic cells as it does in real ones.

    The association is Cliff's delta (1993): the probability that a positive cell has more of the factor than another
    one, less the probability that it has less; -1 to 1. The margin is what the difference between two groups of real
    people (see `statistics.permutation.resplit_people`) stays below with probability `confidence`.

    Args:
        unseen: One row an unseen cell: `descriptors.image_factors`, label and person.
        floor: The same of other people's real cells.
        synthetic: The same of synthetic cells, without person.
        positive_class: The class that a factor may go with; None: there is none, and the table has no rows.
        bootstrap: Of people for real cells and of images for synthetic ones; as many draws of the margin, but
            200 of these at least.

    Returns:
        One row a factor: delta of real (unseen), floor and synthetic cells, each with _low and _high; difference
        (synthetic less real) with its interval; margin, NaN where there are too few people to tell; and the
        verdict of `keeps_or_not`.

    Raises:
        UserError: a side has no positive or no other cells.
    """
    if positive_class is None:
        return pd.DataFrame(columns=KEPT_COLUMNS)
    sides = dict(zip(SIDES, (_usable(table) for table in (unseen, floor, synthetic)), strict=True))
    positive = {side: (table["label"] == positive_class).to_numpy() for side, table in sides.items()}
    for side, truth in positive.items():
        if not truth.any() or truth.all():
            raise UserError(
                f"{truth.sum()} of {len(truth)} {side} cells with a foreground are {positive_class!r}, expected some, "
                "not all; raise validation.comparison.n, or check validation.comparison.foreground_threshold"
            )
    rng = bootstrap.rng
    people, others = (sides[side]["person"].to_numpy(dtype=str) for side in ("real", "floor"))
    owners = zip(SIDES, (people, others, np.arange(len(sides["synthetic"]))), strict=True)
    weights = {side: bootstrap.weights(owner) for side, owner in owners}
    labels = sides["synthetic"]["label"].to_numpy(dtype=str)
    groups = resplit_people(sides["real"], sides["floor"], labels, max(RESPLITS, bootstrap.resamples), rng)
    rows = []
    for factor in IMAGE_FACTORS:
        values = {side: table[factor].to_numpy(dtype=float) for side, table in sides.items()}
        found = {
            side: cliffs_delta(values[side], positive[side], np.ones((1, len(positive[side]))))[0] for side in SIDES
        }
        drawn = {side: cliffs_delta(values[side], positive[side], weights[side]) for side in SIDES}
        margin = np.nan
        if groups is not None:
            pool, status = (np.concatenate([of["real"], of["floor"]]) for of in (values, positive))
            one, rest = (cliffs_delta(pool, status, group) for group in groups)
            margin = float(np.quantile(_defined(np.abs(one - rest)), bootstrap.confidence))
        found = {side: (found[side], *bootstrap.interval(_defined(drawn[side]))) for side in SIDES}
        found["difference"] = (
            found["synthetic"][0] - found["real"][0],
            *bootstrap.interval(_defined(drawn["synthetic"] - drawn["real"])),
        )
        row: dict[str, object] = {"factor": factor}
        for name, values_of in found.items():
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), values_of, strict=True))
        verdict = keeps_or_not(found["real"], found["synthetic"][0], found["difference"], margin)
        rows.append(row | {"margin": margin, "verdict": verdict})
    return pd.DataFrame(rows)


def keeps_or_not(
    real: tuple[float, float, float], synthetic: float, difference: tuple[float, float, float], margin: float
) -> str:
    """The verdict on an association, of deltas and their difference; three numbers are one with its interval's bounds.

    If the difference is larger than the margin and its interval lies on one side of 0: "exaggerates" if the synthetic
    association is the stronger one and of the same sign (or none is shown in real cells, as the interval holds 0), else
    "loses", as it is weaker or reversed. If the difference is not larger than the margin: "none shown" if none is shown
    in real cells, "keeps" if by the difference's interval at least half of the association is kept, and at most half of
    it added. Else, or without a margin, "not decided".
    """
    if not np.isfinite(margin):
        return "not decided"
    shown = not real[1] <= 0 <= real[2]
    apart, low, high = difference
    if abs(apart) > margin:
        if low <= 0 <= high:
            return "not decided"
        return "exaggerates" if abs(synthetic) > abs(real[0]) and (synthetic * real[0] > 0 or not shown) else "loses"
    if not shown:
        return "none shown"
    return "keeps" if max(-low, high) < abs(real[0]) / 2 else "not decided"


def cliffs_delta(
    values: NDArray[np.float64], positive: NDArray[np.bool_], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cliff's delta of positive against other cells (N,) under each weighting (R, N); NaN where one kind has none."""
    order = values.argsort()
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    more, less = (np.add.reduceat((weight * kind)[:, order], starts, axis=1) for kind in (positive, ~positive))
    seen = less.cumsum(axis=1)
    below, above = seen - less, seen[:, -1:] - seen
    pairs = more.sum(axis=1) * seen[:, -1]
    return np.where(pairs > 0, (more * (below - above)).sum(axis=1) / np.maximum(pairs, 1e-9), np.nan)


def _usable(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["empty"].to_numpy(dtype=bool)].reset_index(drop=True)


def _errors(judged: pd.DataFrame) -> _Target:
    """Cells classified wrongly, against the others."""
    person = judged["person"].to_numpy(dtype=str)
    sample = np.zeros(len(person), dtype=np.intp)
    factors = [*(name for name in NAME_FACTORS if name in judged), *IMAGE_FACTORS]
    return _Target(judged, person, (judged["label"] != judged["predicted"]).to_numpy(), sample, factors)


def _against(unseen: pd.DataFrame, others: pd.DataFrame) -> _Target:
    """Unseen cells against others. Of synthetic ones, which are of nobody, each image stands for itself."""
    own = others["person"].to_numpy(dtype=str) if "person" in others else np.arange(len(others)).astype(str)
    kind = "other " if "person" in others else "synthetic "
    return _Target(
        pd.concat([unseen[list(IMAGE_FACTORS)], others[list(IMAGE_FACTORS)]], ignore_index=True),
        np.concatenate([np.char.add("unseen ", unseen["person"].to_numpy(dtype=str)), np.char.add(kind, own)]),
        np.arange(len(unseen) + len(others)) < len(unseen),
        np.repeat([0, 1], [len(unseen), len(others)]),
        list(IMAGE_FACTORS),
        scopes=(PEOPLE,),
    )


def _reason(values: NDArray[np.float64], truth: NDArray[np.bool_], unit: NDArray[np.str_], cells: int) -> str:
    """Why a factor cannot be tested; empty if it can."""
    known = f" (known for {len(values)} of {cells} cells)"
    if len(values) and not np.ptp(values, axis=0).any():
        return f"the same for all cells{known}"
    lack = _too_few("people or images on the smaller side", min(len(set(unit[truth])), len(set(unit[~truth]))))
    return f"{lack}{known}" if lack else ""


def _too_few(what: str, number: int) -> str:
    return f"{number} {what}, expected at least {FOLDS}" if number < FOLDS else ""


def _defined(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the draws that lack one side."""
    kept = drawn[np.isfinite(drawn)]
    if not len(kept):
        raise UserError(
            "no draw of people has both sides to compare; raise validation.comparison.n or "
            "data_processing.split.test_fraction"
        )
    return kept
