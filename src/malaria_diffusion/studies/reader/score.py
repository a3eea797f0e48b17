"""How well readers tell synthetic cells from real ones, and whether they see the classes that are meant."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.statistics.bootstrap import Interval
from malaria_diffusion.statistics.jackknife import Jackknife
from malaria_diffusion.studies.reader.answers import ALL
from malaria_diffusion.studies.reader.key import Key

ACCURACY, CLASSES = "accuracy", "class of real cells"
SECONDS = "seconds a cell"
APART = "told apart"
GUESSING = 0.5
NOTHING = Interval(float("nan"), float("nan"))


class Measure(NamedTuple):
    """A mean over parts of the cells of the share in which readers are right.

    Attributes:
        name: See `score_readers`.
        group: "all", or the class it is of.
        asks: What readers say, "kind" or "label".
        parts: Cells of each part, bool (parts, N), no part empty.
    """

    name: str
    group: str
    asks: str
    parts: NDArray[np.bool_]


def score_readers(answers: pd.DataFrame, key: Key) -> pd.DataFrame:
    """Accuracies of every reader and of all together, with intervals, and a verdict on each.

    Real cells of a person are not independent, images of a model are: intervals leave out each person and each image in
    turn (`statistics.jackknife`). An exact binomial interval would take all cells as independent. That of all
    readers is for new readers, people and images; with one reader it is of this reader.

    Measures, all between 0 and 1: "accuracy" of real-or-synthetic (mean of the next two; guessing gives 0.5);
    "real called real" (specificity) and "synthetic called synthetic" (sensitivity); "class of real cells" and "class of
    synthetic cells", the share of cells, mean over classes, whose class the reader sees as the data or the model's
    instruction have it. Besides "seconds a cell", the median.

    Args:
        answers: See `read_answers`; of one reader at least.
        key: Of the sheet.

    Returns:
        One row a reader (or "all readers", first), measure and group: reader, measure, group, value, low, high, lowest
        and highest (of the readers), cells (answered, mean over readers), units (people and images), missing (answers)
        and verdict (of the accuracy of all cells). NaN where nothing is answered, or where there is no interval.
    """
    readers, measures = sorted(answers["reader"].unique()), _measures(key)
    each = [_rows(reader, answers, [reader], key, measures) for reader in readers]
    together = each[0].assign(reader=ALL) if len(readers) == 1 else _rows(ALL, answers, readers, key, measures)
    return pd.concat([together, *each], ignore_index=True)


def verdict(accuracy: Interval, classes: Interval | None, key: Key) -> str:
    """What an accuracy of telling real from synthetic means.

    "No better than chance" needs the whole interval within the margin that is sealed in the key, and, so that a reader
    who does not look cannot say it, classes of real cells that are told better than by guessing.

    Args:
        accuracy: Its interval.
        classes: The interval of the share of real cells whose class is told; None: there is one class.
        key: Of the sheet.
    """
    if accuracy.low > GUESSING:
        return APART
    if accuracy.high < GUESSING:
        return "told apart, with the names exchanged"
    looked = classes is not None and classes.low > 1 / len(key.classes)
    if looked and accuracy.low >= GUESSING - key.margin and accuracy.high <= GUESSING + key.margin:
        return f"no better than chance, within the margin of {key.margin:g}"
    return "not decided"


def sentence(scores: pd.DataFrame) -> str:
    """The verdict on all readers, with its numbers, and how many of several tell the kinds apart by themselves."""
    judged = scores[(scores["measure"] == ACCURACY) & (scores["group"] == "all")].set_index("reader")
    found, each = judged.loc[ALL], judged.drop(index=ALL)
    who = "1 reader was" if len(each) == 1 else f"{len(each)} readers were"
    apart = int((each["verdict"] == APART).sum())
    return (
        f"{found['verdict']}: {who} right on {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}] of cells, "
        "where guessing gives 0.5" + (f"; {apart} of {len(each)} told them apart alone" if len(each) > 1 else "")
    )


def _measures(key: Key) -> list[Measure]:
    kinds, labels = (np.array([getattr(cell, name) for cell in key.cells]) for name in ("kind", "label"))
    sides = {kind: kinds == kind for kind in ("real", "synthetic")}
    several = len(key.classes) > 1
    groups = {"all": key.classes} | ({label: [label] for label in key.classes} if several else {})
    found = []
    for group, among in groups.items():
        inside = {kind: side & np.isin(labels, among) for kind, side in sides.items()}
        found.append(Measure(ACCURACY, group, "kind", np.stack(list(inside.values()))))
        found += [Measure(f"{kind} called {kind}", group, "kind", cells[None]) for kind, cells in inside.items()]
        if several:
            of_label = np.stack([labels == label for label in among])
            found += [Measure(f"class of {kind} cells", group, "label", of_label & sides[kind]) for kind in sides]
    return found


class _Panel:
    """What some readers say of the cells of the sheet.

    Args:
        answers: See `read_answers`; their own are taken.
        readers: Their names, R of them.
        key: Of the sheet, of N cells.
        measures: M of them.

    Attributes:
        answered: bool, (R, N).
    """

    def __init__(self, answers: pd.DataFrame, readers: list[str], key: Key, measures: list[Measure]) -> None:
        said = answers[answers["reader"].isin(readers)]
        ids = [cell.id for cell in key.cells]
        right = {
            asked: said.assign(right=(said[f"said_{asked}"] == said[asked]).astype(float))
            .pivot(index="reader", columns="id", values="right")
            .reindex(index=readers, columns=ids)
            .to_numpy()
            for asked in ("kind", "label")
        }
        self.answered = np.isfinite(right["kind"])
        self._right = {asked: np.nan_to_num(found) for asked, found in right.items()}
        self._parts = np.concatenate([measure.parts for measure in measures])
        sizes = [len(measure.parts) for measure in measures]
        self._is_kind = np.repeat([measure.asks == "kind" for measure in measures], sizes)
        self._first, self._sizes = np.cumsum([0, *sizes[:-1]]), np.array(sizes)

    def each(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Measures of every reader, of cells with these weights (N,): (R, M); NaN where a part has no answer."""
        parts = (self._parts * weight).T
        total = self.answered @ parts
        right = np.where(self._is_kind, self._right["kind"] @ parts, self._right["label"] @ parts)
        shares = np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)
        means: NDArray[np.float64] = np.add.reduceat(shares, self._first, axis=1) / self._sizes
        return means

    def mean(self, weight: NDArray[np.float64]) -> dict[str, float]:
        """Over the readers of whom a measure is defined, by its number."""
        each = self.each(weight)
        defined = np.isfinite(each)
        sums, readers = np.where(defined, each, 0).sum(axis=0), defined.sum(axis=0)
        means = np.divide(sums, readers, out=np.full(len(sums), np.nan), where=readers > 0)
        return {str(number): float(value) for number, value in enumerate(means)}


def _rows(name: str, answers: pd.DataFrame, readers: list[str], key: Key, measures: list[Measure]) -> pd.DataFrame:
    """Of these readers together."""
    panel = _Panel(answers, readers, key, measures)
    units = np.array([cell.unit for cell in key.cells])
    shown = panel.answered.any(axis=0)
    # what nobody has answered weighs nothing, whoever is left out
    jackknife = Jackknife(panel.mean, np.where(shown, units, "unanswered"), key.confidence)
    missing = int((~panel.answered).sum())
    rows, intervals = [], dict[tuple[str, str], Interval]()
    for number, (measure, each) in enumerate(zip(measures, panel.each(np.ones(len(units))).T, strict=True)):
        inside, each = shown & measure.parts.any(axis=0), each[np.isfinite(each)]
        low, high = jackknife.share(str(number), inside, each) if len(each) else NOTHING
        intervals[measure.name, measure.group] = Interval(low, high)
        rows.append(
            {
                "reader": name,
                "measure": measure.name,
                "group": measure.group,
                "value": jackknife.values[str(number)],
                "low": low,
                "high": high,
                "lowest": each.min() if len(each) else np.nan,
                "highest": each.max() if len(each) else np.nan,
                "cells": float((panel.answered & inside).sum(axis=1).mean()),
                "units": len(set(units[inside])),
                "missing": missing,
                "verdict": "",
            }
        )
    rows[0]["verdict"] = verdict(intervals[ACCURACY, "all"], intervals.get((CLASSES, "all")), key)
    seconds = answers[answers["reader"].isin(readers)].groupby("reader")["seconds"].median()
    value, lowest, highest = float(seconds.median()), float(seconds.min()), float(seconds.max())
    times = {"measure": SECONDS, "value": value, "low": np.nan, "high": np.nan, "lowest": lowest, "highest": highest}
    return pd.DataFrame([*rows, rows[0] | times | {"verdict": ""}])
