"""Which cells are compared: as many of each class, reproducibly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.bootstrap import Interval

MOST_CLASSES = 10  # that are compared, explained and shown one by one
FEWEST_OF_A_CLASS = 5  # cells on a side, for a space of one dimension to measure them in, see `fidelity.Projection`


@dataclass(frozen=True)
class Comparison:
    """Synthetic cells and those they are compared with, as many of each class.

    Attributes:
        unseen: Cells of the test people.
        others: Cells of training people that were trained on: what they differ in is the floor.
        synthetic: What is judged.
        val: Cells of validation people, at most as many: the floor of what the classifier says, as it was trained on
            the other one.
        study: All cells of the study, to which the real ones here belong.
        generated: All synthetic cells, of which some are compared.
    """

    unseen: Cells
    others: Cells
    synthetic: Cells
    val: Cells
    study: Cells
    generated: Cells

    @classmethod
    def choose(cls, study: Cells, generated: Cells, n: int, seed: int) -> Self:
        """Choose at most `n` cells a side, as many of each class, at random.

        Raises:
            UserError: a side lacks a class that another has, or there are more classes than `n`.
        """
        test, trained_on, val = study.part("test"), study.part("train"), study.part("val")
        number = per_class_number(n, test.table, generated.table, trained_on.table)
        if number == 0:
            raise UserError(
                f"validation.comparison.n is {n}, but there are {len(study.class_names)} classes: compare at least one "
                "cell of each, better many"
            )
        rng = np.random.default_rng(seed)
        unseen, others, synthetic = (side.balanced(number, rng) for side in (test, trained_on, generated))
        of_val = per_class_number(number * len(set(test.labels)), val.table)
        return cls(unseen, others, synthetic, val.balanced(of_val, rng), study, generated)

    @property
    def sides(self) -> dict[str, Cells]:
        """By the names that tables of results have for them."""
        return {"real": self.unseen, "floor": self.others, "synthetic": self.synthetic}

    def title(self, what: str) -> str:
        """Of a figure that shows all three sides."""
        return f"{what} ({self.study.caption}, others, and synthetic)"

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Label and, of real cells, person, by side."""
        return {side: cells.table.reindex(columns=["label", "person"]) for side, cells in self.sides.items()}


def per_class_number(n: int, *tables: pd.DataFrame) -> int:
    """Cells of each class, so that they make at most `n` in all and every table has enough of every class.

    Raises:
        UserError: a table lacks a class that another has.
    """
    classes = sorted({label for table in tables for label in table["label"].unique()})
    smallest = n // len(classes)
    for table in tables:
        counts = table["label"].value_counts().reindex(classes, fill_value=0)
        if counts.min() == 0:
            raise UserError(
                f"one side has no cell of class {counts.idxmin()!r} to compare (found {counts.to_dict()}); "
                "generate every class with diffusion.sampling.count"
            )
        smallest = min(smallest, int(counts.min()))
    return smallest


def compared_groups(labels: pd.Series, least: int = 1) -> list[str]:
    """What is compared: "all", and each class where there are at most `MOST_CLASSES`, each of at least `least` images.

    A table of a hundred classes is read by nobody, and one of a hundred tests always stands out.
    """
    counts = labels.value_counts().sort_index()
    return ["all", *counts.index] if len(counts) <= MOST_CLASSES and counts.min() >= least else ["all"]


def in_group(labels: pd.Series, group: str) -> NDArray[np.bool_]:
    """Which cells a group of `compared_groups` is of, (N,)."""
    return ((group == "all") | (labels == group)).to_numpy()


def beside_floor(found: Iterable[tuple[float, Interval]]) -> dict[str, float]:
    """The columns of a table: a value, the floor, and their difference, each with _low and _high (of the value low and
    high).
    """
    columns: dict[str, float] = {}
    for name, (value, (low, high)) in zip(("value", "floor", "difference"), found, strict=True):
        prefix = "" if name == "value" else f"{name}_"
        columns |= {name: float(value), f"{prefix}low": float(low), f"{prefix}high": float(high)}
    return columns


def spread_rows(rows: NDArray[np.intp], units: NDArray[np.str_], count: int) -> NDArray[np.intp]:
    """`count` of `rows`, of as many units (people) as there are, the first ones of each first.

    Args:
        rows: In the order in which they are taken, (N,).
        units: Whose each of them is, (N,).
        count: At most N.
    """
    turn = pd.Series(units).groupby(units).cumcount().to_numpy()
    return rows[np.argsort(turn, kind="stable")[:count]]
