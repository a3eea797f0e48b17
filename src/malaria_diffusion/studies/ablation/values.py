"""What the study of the number of diffusion steps trains: every value, and the parameters it stands for."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from malaria_diffusion.diffusion.config import ProcessParameters, ScheduleKind, TrainingParameters
from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.config import AblationParameters


class Betas(StrEnum):
    """What becomes of the betas when T is not the one they are meant for."""

    UNSCALED = "unscaled"
    SCALED = "scaled"


class Value(NamedTuple):
    """One training of the study.

    Attributes:
        timesteps: T.
        betas: Scaled or not.
        seed: Of the training and of the images generated after it.
    """

    timesteps: int
    betas: Betas
    seed: int

    def __str__(self) -> str:
        return f"T = {self.timesteps}, {self.betas}, seed {self.seed}"


def values_to_train(parameters: AblationParameters) -> list[Value]:
    """Each training once: T from few to many unscaled, and back again scaled.

    That order keeps the cost of a training free of a machine that slowly grows busier or calmer meanwhile.
    """
    values = []
    for seed in parameters.seeds:
        values += [Value(timesteps, Betas.UNSCALED, seed) for timesteps in parameters.timesteps]
        others = [timesteps for timesteps in parameters.timesteps if timesteps != parameters.reference_timesteps]
        values += [Value(timesteps, Betas.SCALED, seed) for timesteps in reversed(others)]
    return values


def values_to_list(parameters: AblationParameters) -> list[tuple[Value, Value]]:
    """Each row of the table, by scaling, seed and T, with the training that it is of."""
    rows = []
    for betas in Betas:
        for seed in parameters.seeds:
            for timesteps in parameters.timesteps:
                same = timesteps == parameters.reference_timesteps
                trained = Value(timesteps, Betas.UNSCALED if same else betas, seed)
                rows.append((Value(timesteps, betas, seed), trained))
    return rows


def process_of(value: Value, process: ProcessParameters, parameters: AblationParameters) -> ProcessParameters:
    """The process of a value: linear betas, T steps.

    Raises:
        UserError: T is so small that a scaled beta leaves (0, 1).
    """
    factor = parameters.reference_timesteps / value.timesteps if value.betas is Betas.SCALED else 1.0
    if process.beta_end * factor >= 1:
        least = int(process.beta_end * parameters.reference_timesteps) + 1
        raise UserError(
            f"ablation.timesteps holds {value.timesteps}, with which diffusion.process.beta_end scaled by "
            f"{factor:g} is {process.beta_end * factor:g}, not below 1; take {least} steps at least"
        )
    settings = process.model_dump() | {
        "timesteps": value.timesteps,
        "schedule": ScheduleKind.LINEAR,
        "beta_start": process.beta_start * factor,
        "beta_end": process.beta_end * factor,
    }
    return ProcessParameters(**settings)


def training_of(value: Value, training: TrainingParameters, parameters: AblationParameters) -> TrainingParameters:
    """How a value is trained: as long as every other.

    The learning rate falls to zero over these epochs, so that their number is part of the training's identity. What is
    seen while training, every `quality_epochs`, is not used.
    """
    epochs = parameters.epochs
    settings = training.model_dump() | {
        "epochs": epochs,
        "decay_epochs": epochs,
        "quality_epochs": min(training.quality_epochs, epochs),
        "seed": value.seed,
        "guide_epochs": None if training.guide_epochs is None else min(training.guide_epochs, epochs),
    }
    return TrainingParameters(**settings)


def check_images(parameters: AblationParameters, labels: pd.Series) -> None:
    """Make sure that the floor can be measured on as many training cells as images are generated.

    Args:
        parameters: Of the study.
        labels: Classes of the training cells.

    Raises:
        UserError: it cannot.
    """
    counts = labels.value_counts()
    if parameters.images % len(counts) or parameters.images // len(counts) > counts.min():
        raise UserError(
            f"ablation.images is {parameters.images}, expected a multiple of {len(counts)}, the number of classes, and "
            f"at most {len(counts) * int(counts.min())}, as there are {counts.to_dict()} training cells"
        )


class Training(NamedTuple):
    """A value with all that its training is made of.

    Attributes:
        value: T, scaling and seed.
        process: See `process_of`.
        training: See `training_of`.
        identity: Name of the training, see `diffusion.training.trainer.training_identity`.
    """

    value: Value
    process: ProcessParameters
    training: TrainingParameters
    identity: str
