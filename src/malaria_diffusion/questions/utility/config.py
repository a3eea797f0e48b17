"""What a user may set of the study of utility."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from malaria_diffusion.config import Parameters, rising

Steps = Annotated[int, Field(ge=4)]


class Arm(StrEnum):
    """What a classifier is given."""

    REAL = "real cells"
    AUGMENTATION = "augmentation"
    SHARING = "data sharing"
    SYNTHETIC = "synthetic cells alone"
    MATCHED = "as many real cells"


class UtilityParameters(Parameters):
    """The study of what synthetic cells are worth to a classifier.

    Attributes:
        shares: Shares of the training people whose real cells a classifier is given; rising, the last 1.
        seeds: One repetition for each: other people, other initial weights, another DDPM of the smaller shares.
        steps: Optimizer steps of every classifier, whatever it is given: a number, or several that rise, as what helps
            a training that is cut short need not help one that has converged.
        synthetic_per_real: Synthetic cells beside each real one, at most as many as there are.
        arms: What is asked; what an arm is held against is added. Augmentation is the only one that trains diffusion
            models, which takes most of the time.
        ddpm_images: Training images that the DDPM of each smaller share sees.
    """

    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.1, 1.0], min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(list(range(10)), min_length=1)
    steps: Steps | Annotated[list[Steps], Field(min_length=1)] = 300
    synthetic_per_real: float = Field(1.0, gt=0)
    arms: list[Arm] = Field(list(Arm), min_length=1)
    ddpm_images: int = Field(15_000, ge=1)

    @property
    def budgets(self) -> list[int]:
        """The numbers of steps, also if there is one."""
        return self.steps if isinstance(self.steps, list) else [self.steps]

    @field_validator("shares", "seeds", "steps")
    @classmethod
    def _sorted_once(cls, value: list[float] | int) -> list[float] | int:
        return rising(value) if isinstance(value, list) else value

    @field_validator("shares")
    @classmethod
    def _up_to_all(cls, value: list[float]) -> list[float]:
        if value[-1] != 1:
            raise ValueError(f"the last must be 1, all training people, found {value[-1]}")
        return value

    @model_validator(mode="after")
    def _something_to_train(self) -> UtilityParameters:
        if self.shares == [1] and self.arms == [Arm.AUGMENTATION]:
            raise ValueError(
                "shares [1] and arms ['augmentation'] leave nothing to train: a DDPM of a share's own cells is asked "
                "of smaller shares; give one, or another arm"
            )
        return self
