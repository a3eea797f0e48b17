"""What the study of utility compares: which classifier is given which cells.

Two questions, kept apart. Augmentation: a hospital has few people's cells, trains a DDPM on these alone, and adds its
cells to them. Data sharing: a hospital that has many people's cells gives away synthetic ones, which another uses alone
or with the few it has.

Every classifier is given all real cells of its people, synthetic ones on top, and augments what it is given by all
mirrorings and turns and by tints, as anyone would who has few cells: a gain is what synthetic cells add to that.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.split import keyed_uniform, strata, training_rows
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.utility.config import Arm, UtilityParameters

JUDGED = 64  # cells of others, after each epoch


class Trial(NamedTuple):
    """One classifier.

    Attributes:
        arm: What it is given.
        share: Of the training people, whose real cells it is given; 0 with synthetic cells alone.
        seed: Of the choice of people, of the initial weights and of the order of cells.
        steps: Optimizer steps.
    """

    arm: Arm
    share: float
    seed: int
    steps: int

    def __str__(self) -> str:
        real = f" with {self.share:.0%} of the training people" if self.share else ""
        return f"{self.arm}{real}, seed {self.seed}, {self.steps} steps"

    @property
    def reference(self) -> Trial:
        """What it gains over: the same real cells without synthetic ones; of these alone, as many real cells."""
        if self.arm is Arm.SYNTHETIC:
            return self._replace(arm=Arm.MATCHED, share=1.0)
        return self if self.arm is Arm.MATCHED else self._replace(arm=Arm.REAL)


def trials(parameters: UtilityParameters) -> list[Trial]:
    """All classifiers. With all people the DDPM of the same people is the one of data sharing, so that is one arm.

    What an arm is held against is there too, whatever arms are asked for.
    """
    listed: list[Trial] = []
    for seed, steps in itertools.product(parameters.seeds, parameters.budgets):
        listed += [Trial(Arm.SYNTHETIC, 0.0, seed, steps), Trial(Arm.MATCHED, 1.0, seed, steps)]
        for share in parameters.shares:
            arms = [Arm.REAL, Arm.SHARING] if share == 1 else [Arm.REAL, Arm.AUGMENTATION, Arm.SHARING]
            listed += [Trial(arm, share, seed, steps) for arm in arms]
    asked = [trial for trial in listed if trial.arm in parameters.arms]
    needed = {*asked, *(trial.reference for trial in asked)}
    return [trial for trial in listed if trial in needed]


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
        train_rows: Rows in the order in which they are shown, the classes in turn; each cell of a class as often as any
            other, to one.
        val_rows: Rows that are judged after each epoch and choose nothing.
        real: Different real cells among `train_rows`.
        synthetic: Different synthetic ones.
    """

    cells: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]
    real: int
    synthetic: int


Source = tuple[NDArray[np.uint8], NDArray[np.int64]]


def training_set(
    real: Source, synthetic: Source, val: Source, shown: int, synthetic_per_real: float, seed: int
) -> TrainingSet:
    """All real cells and synthetic ones on top, classes equal.

    Args:
        real: Cells, uint8 (n, 3, S, S), and class indices (n,); none of either for synthetic cells alone.
        synthetic: The same.
        val: Cells of others, of which a few are judged after each epoch.
        shown: Cells that are shown in all, rounded down to equal parts of the classes.
        synthetic_per_real: Synthetic cells beside each real one of their class, at most as many as there are; without
            real ones all.
        seed: Of the order, and of which synthetic cells.

    Raises:
        UserError: not one cell of each class can be shown.
    """
    rng = np.random.default_rng(seed)
    judged = rng.permutation(len(val[1]))[:JUDGED]
    cells = np.concatenate([real[0], synthetic[0], val[0][judged]])
    labels = np.concatenate([real[1], synthetic[1], val[1][judged]])
    first_synthetic, first_val = len(real[1]), len(real[1]) + len(synthetic[1])
    classes = np.unique(labels[:first_val])
    quota = shown // len(classes)
    if not quota:
        raise UserError(
            f"{shown} cells that are shown cannot hold {len(classes)} classes: raise validation.utility.steps"
        )
    walks = []
    for label in classes:
        there = np.flatnonzero(labels[:first_val] == label)
        of_real, of_synthetic = there[there < first_synthetic], rng.permutation(there[there >= first_synthetic])
        if len(of_real):
            of_synthetic = of_synthetic[: round(synthetic_per_real * len(of_real))]
        given = np.concatenate([of_real, of_synthetic])
        rounds = [rng.permutation(given) for _ in range(-(-quota // len(given)))]
        walks.append(np.concatenate(rounds)[:quota])
    rows = np.stack(walks, axis=1).ravel()  # the classes in turn, so that every part of the walk holds all of them
    different = np.unique(rows)
    return TrainingSet(
        cells,
        labels,
        rows,
        np.arange(first_val, len(cells)),
        int((different < first_synthetic).sum()),
        int((different >= first_synthetic).sum()),
    )


def part_of_each(source: Source, like: Source, seed: int) -> Source:
    """Random cells of a source, of each class as many as there are of `like`, or all."""
    rng = np.random.default_rng(seed)
    number = np.bincount(like[1], minlength=int(source[1].max()) + 1)
    rows = [rng.permutation(np.flatnonzero(source[1] == label))[:most] for label, most in enumerate(number)]
    chosen = np.sort(np.concatenate(rows))
    return source[0][chosen], source[1][chosen]
