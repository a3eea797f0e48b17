"""What a user may set of the generative classifier."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from malaria_diffusion.compute.config import DeviceName, PrecisionName
from malaria_diffusion.config import Parameters, rising


class AnomalyParameters(Parameters):
    """Cells unlike any in training.

    Attributes:
        cells: Of each kind that is planted, and as many untouched ones, classes in equal numbers.
        draws: Of noise at each level.
    """

    cells: int = Field(ge=20)
    draws: int = Field(ge=1, le=16)


class ShiftParameters(Parameters):
    """Stain and focus changed in steps.

    Attributes:
        cells: Judged at each step, classes in equal numbers.
        hues: Turns of the colour circle, -0.5 to 0.5.
        saturations: Factors; 0 is grey, 1 as it is.
        blurs: Standard deviations of a Gaussian, in thousandths of the side of a cell.
    """

    cells: int = Field(ge=20)
    hues: list[Annotated[float, Field(ge=-0.5, le=0.5)]]
    saturations: list[Annotated[float, Field(ge=0, le=10)]]
    blurs: list[Annotated[float, Field(gt=0, le=500)]]


class LowDataParameters(Parameters):
    """Both classifiers trained on few people.

    Attributes:
        shares: Of the training people.
        images: That each DDPM sees.
        steps: Optimizer steps of each YOLOv8.
        seed: Of the choice of people and of both trainings.
    """

    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    images: int = Field(ge=1)
    steps: int = Field(ge=4)
    seed: int = Field(ge=0)

    @field_validator("shares")
    @classmethod
    def _sorted_once(cls, value: list[float]) -> list[float]:
        return rising(value)


class GenerativeParameters(Parameters):
    """The diffusion model as a classifier.

    Attributes:
        cells: Test cells judged, classes in equal numbers; fewer if there are fewer.
        validation_cells: Validation cells that choose and calibrate, likewise.
        log_snrs: Levels of noise to choose from: log signal-to-noise ratios, nats.
        draws: Of noise at each level, at most.
        looks: At a cell under each class, at most; validation cells may choose fewer.
        give_up: A class whose probability falls below this is not asked about any more. 0: all looks for every cell.
        maps: Cells of each class whose map is drawn.
        anomalies: Cells unlike any in training.
        shift: Stain and focus.
        low_data: Few people.
        batch_size: Network evaluations at once.
        precision: Of the network.
        device: Where.
        seed: Of the choice of cells and of the noise.
    """

    cells: int = Field(ge=20)
    validation_cells: int = Field(ge=20)
    log_snrs: list[Annotated[float, Field(ge=-15, le=15)]] = Field(min_length=2)
    draws: int = Field(ge=1, le=64)
    looks: int = Field(ge=1)
    give_up: float = Field(ge=0, lt=0.5)
    maps: int = Field(ge=1, le=12)
    anomalies: AnomalyParameters
    shift: ShiftParameters
    low_data: LowDataParameters
    batch_size: int = Field(ge=1)
    precision: PrecisionName
    device: DeviceName
    seed: int = Field(ge=0, lt=2**63)

    @field_validator("log_snrs")
    @classmethod
    def _rising(cls, value: list[float]) -> list[float]:
        return rising(value)
