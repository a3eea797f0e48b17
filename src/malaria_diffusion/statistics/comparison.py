"""Which cells are compared: as many of each class, reproducibly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.errors import UserError

MOST_CLASSES = 10  # that are compared, explained and shown one by one


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


def balanced_rows(labels: pd.Series, per_class: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Index values of `per_class` random cells of each class, without repetition, sorted."""
    by_class = [rng.permutation(labels.index[labels == label])[:per_class] for label in sorted(labels.unique())]
    return np.sort(np.concatenate(by_class))
