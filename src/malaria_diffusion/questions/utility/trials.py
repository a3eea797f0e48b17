"""What the study of utility compares: which classifier is given which cells.

Two questions, kept apart. Augmentation: a hospital has few people's cells, trains a DDPM on these alone, and adds its
cells to them. Data sharing: a hospital that has many people's cells gives away synthetic ones, which another uses alone
or with the few it has.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.split import keyed_uniform, strata, training_rows
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.utility.config import UtilityParameters


class Arm(StrEnum):
    """What a classifier is given."""

    REAL = "real cells"
    AUGMENTATION = "augmentation"
    SHARING = "data sharing"
    SYNTHETIC = "synthetic cells alone"


class Trial(NamedTuple):
    """One classifier.

    Attributes:
        arm: What it is given.
        share: Of the training people, whose real cells it is given; 0 with synthetic cells alone.
        seed: Of the choice of people, of the initial weights and of the order of cells.
    """

    arm: Arm
    share: float
    seed: int

    def __str__(self) -> str:
        real = f" with {self.share:.0%} of the training people" if self.share else ""
        return f"{self.arm}{real}, seed {self.seed}"


def trials(parameters: UtilityParameters) -> list[Trial]:
    """All classifiers. With all people the DDPM of the same people is the one of data sharing, so that is one arm."""
    listed = []
    for seed in parameters.seeds:
        listed.append(Trial(Arm.SYNTHETIC, 0.0, seed))
        for share in parameters.shares:
            arms = [Arm.REAL, Arm.SHARING] if share == 1 else [Arm.REAL, Arm.AUGMENTATION, Arm.SHARING]
            listed += [Trial(arm, share, seed) for arm in arms]
    return listed


def rows_of_share(cell_table: pd.DataFrame, share: float, seed: int) -> NDArray[np.int64]:
    """Rows of the training cells of a share of the training people, at least one of each stratum.

    A smaller share's people are among a larger's. Audit cells are left out.

    Raises:
        UserError: a class is missing among them.
    """
    trained = cell_table[training_rows(cell_table)]
    stratum = strata(trained)
    chosen: list[str] = []
    for _, people in stratum.groupby(stratum):
        ordered = sorted(people.index, key=lambda person: keyed_uniform(seed, "utility", person))
        chosen += ordered[: max(1, round(share * len(ordered)))]
    rows = np.flatnonzero(training_rows(cell_table) & cell_table["person"].isin(chosen))
    missing = set(cell_table["label"]) - set(cell_table["label"].iloc[rows])
    if missing:
        raise UserError(f"{share:.0%} of the training people have no cell of {sorted(missing)}; raise utility.shares")
    return rows


class TrainingSet(NamedTuple):
    """What a classifier is trained on.

    Attributes:
        cells: uint8, (N, 3, S, S).
        labels: Class indices, (N,).
        train_rows: Rows for one epoch; a cell of a small source occurs more than once.
        val_rows: Rows that validate: the epoch is chosen by them where the best is kept.
    """

    cells: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]


Source = tuple[NDArray[np.uint8], NDArray[np.int64]]


def training_set(sources: list[Source], val: Source, number: int, num_classes: int, seed: int) -> TrainingSet:
    """Equal parts of every source and class, so that arms differ in nothing but whose cells they hold.

    Args:
        sources: Cells, uint8 (n, 3, S, S), and class indices (n,) of each: real, synthetic or both.
        val: Validation people's cells and classes.
        number: Cells an epoch; rounded down to equal parts.
        num_classes: Number of classes.
        seed: Of the choice.

    Raises:
        UserError: an epoch is too short for one cell of each.
    """
    rng = np.random.default_rng(seed)
    cells = np.concatenate([source[0] for source in sources] + [val[0]])
    labels = np.concatenate([source[1] for source in sources] + [val[1]])
    quota = number // (len(sources) * num_classes)
    if not quota:
        raise UserError(
            f"an epoch of {number} cells cannot hold {num_classes} classes of {len(sources)} source(s): raise "
            "validation.utility.steps"
        )
    train, start = [], 0
    for _, classes in sources:
        for label in range(num_classes):
            rows = rng.permutation(np.flatnonzero(classes == label)) + start
            train.append(np.resize(rows, quota))
        start += len(classes)
    return TrainingSet(cells, labels, np.concatenate(train), np.arange(start, len(cells)))
