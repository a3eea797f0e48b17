"""Every cell judged once by a classifier that has not seen its person: cross-validation by person."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import Recipe
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.metrics import prediction_table
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.trainer import train_classifier
from malaria_diffusion.errors import UserError

# of the remaining people, one in so many validates
VAL_PARTS = 8


class Fold(NamedTuple):
    """Rows of the cell table; no cell is in two of the three, nor a person where folds are of people.

    Attributes:
        train: What is learned from, without audit cells.
        val: What the threshold is chosen by, and the epoch where the best is kept.
        test: What is judged.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def person_folds(cell_table: pd.DataFrame, number: int, seed: int) -> list[Fold]:
    """Deal people into `number` folds with about equal shares of the classes; each fold tests once.

    Args:
        cell_table: Columns label, person and audit.
        number: Of folds.
        seed: Of the deal.

    Raises:
        UserError: a class has too few people.
    """
    of_class = cell_table.groupby("label")["person"].nunique()
    least = max(number, VAL_PARTS) + 1
    if of_class.min() < least:
        raise UserError(
            f"class {of_class.idxmin()!r} has {of_class.min()} people; {number} folds by person need {least} at least: "
            "lower validation.folds.number or give more people"
        )
    labels, people = cell_table["label"].to_numpy(), cell_table["person"].to_numpy()
    trainable = ~cell_table["audit"].to_numpy(dtype=bool)
    folds = []
    for rest, test in StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(labels, labels, people):
        inner = StratifiedGroupKFold(VAL_PARTS, shuffle=True, random_state=seed)
        train, val = next(inner.split(labels[rest], labels[rest], people[rest]))
        folds.append(Fold(rest[train][trainable[rest[train]]], rest[val], test))
    return folds


def judge(
    cells: Cells,
    fold: Fold,
    positive_class: str | None,
    recipe: Recipe,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train on a fold's people (a killed or finished training is not repeated) and classify its val and test cells.

    Args:
        cells: Of the study.
        fold: See `Fold`.
        positive_class: See `prediction_table`.
        recipe: How to train.
        on_epoch: See `train_classifier`.

    Returns:
        The predictions of the val and of the test cells, see `prediction_table`.
    """
    names = cells.class_names
    checkpoint, _ = train_classifier(
        ClassifierData(cells.pixels, cells.classes, names, fold.train, fold.val), *recipe, on_epoch
    )
    val, test = (
        prediction_table(part, predict(checkpoint, part.pixels, device=recipe.parameters.device), names, positive_class)
        for part in (cells[fold.val], cells[fold.test])
    )
    return val, test
