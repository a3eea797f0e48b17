"""What a user may set of the validation."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from malaria_diffusion.ddpm.parameters import PrecisionName
from malaria_diffusion.parameters import Parameters

Number = TypeVar("Number", int, float)


def rising(value: list[Number]) -> list[Number]:
    """The list as it is, if it rises and holds each number once.

    Raises:
        ValueError: it does not.
    """
    if value != sorted(set(value)):
        raise ValueError(f"must rise, each number once; found {value}")
    return value


class ClassifierParameters(Parameters):
    """How the classifier is trained; every value is what the optimizer sees, nothing is rescaled behind it."""

    architecture: str = Field("yolov8n-cls", pattern=r"^yolov8[nsmlx]-cls$")
    weights: str | None = None
    """Initial weights: null from scratch, a path, or an official name such as `yolov8n-cls.pt`."""
    image_size: int = Field(ge=32, le=640, multiple_of=32)
    """Side in pixels the cells are resized to (bilinear, antialiased)."""
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    """Cells per optimizer step; batch normalisation needs two."""
    optimizer: Literal["SGD", "Adam", "AdamW"]
    learning_rate: float = Field(gt=0, le=1)
    momentum: float = Field(ge=0, lt=1)
    """Nesterov momentum of SGD, beta1 of Adam and AdamW."""
    weight_decay: float = Field(ge=0, le=1)
    """On convolution and linear weights; biases and normalisation have none."""
    warmup_epochs: float = Field(ge=0)
    """Epochs (at most all but the last) over which the learning rate rises linearly from 0."""
    final_learning_rate_fraction: float = Field(gt=0, le=1)
    """The rate falls linearly, epoch by epoch, towards this fraction of itself at the end of the last epoch."""
    kept_epoch: Literal["best", "last"]
    """Whose weights are kept: of the best validation accuracy (the latest of equals), or of the last epoch. Where the
    learning rate has fallen to almost nothing and few people validate, the last is the better."""
    flips: bool
    """Mirror each training cell left-right, up-down and along the diagonal, each with probability one half: all eight
    mirrorings and turns of a square."""
    colour: float = Field(ge=0, le=1)
    """Multiply each channel of each training cell by exp(colour z), z standard normal: another stain, another lamp.
    Black stays black."""
    test_time_augmentation: bool
    """Classify by the mean over the eight mirrorings and turns of a cell, at eight times the cost; only of a network
    that learned from them (`flips`). The checkpoint carries it, so to change it is to train again."""
    precision: PrecisionName
    """Of training: auto is bfloat16 (mixed) where the hardware has it, else float32. Predictions are float32."""
    seed: int = Field(ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"]

    @model_validator(mode="after")
    def _views_it_learned_from(self) -> ClassifierParameters:
        if self.test_time_augmentation and not self.flips:
            raise ValueError("test_time_augmentation needs flips: true, else it asks about views never learned from")
        return self


class ComparisonParameters(Parameters):
    """How results are measured and compared.

    Attributes:
        positive_class: The class that sensitivity is about; all others are negative. None: no class is the finding, and
            every one counts alike (macro averages; each cell's score is the probability of its own class).
        n: Synthetic cells, and as many unseen real cells, put through the classifier and compared, both classes in
            equal numbers. Fewer are taken if there are fewer, and the number is stated.
        bins: Bins of the intensity histograms, over 0 to 255.
        foreground_threshold: Grey levels by which a pixel must differ from the background in some channel to count
            as part of the cell; the same rule for real and synthetic cells. -1: every pixel is, as of images that
            have no background.
        resamples: Bootstrap resamples for intervals.
        permutations: Of images between real and synthetic, and of people between groups, for p-values, ranks and
            margins.
        confidence: Of the intervals.
        seed: Of every choice and resample.
    """

    positive_class: str | None
    n: int = Field(ge=2)
    bins: int = Field(ge=2, le=256)
    foreground_threshold: int = Field(ge=-1, le=254)
    resamples: int = Field(ge=100)
    permutations: int = Field(ge=200)
    confidence: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)


class FoldParameters(Parameters):
    """Cross-validation by person.

    Attributes:
        number: Folds; each takes as long as the classifier of the validation.
        seed: Of the deal of people to folds.
    """

    number: int = Field(ge=2)
    seed: int = Field(ge=0)


class UtilityParameters(Parameters):
    """The study of what synthetic cells are worth to a classifier.

    Attributes:
        shares: Shares of the training people whose real cells a classifier is given; rising, the last 1.
        seeds: One repetition for each: other people, other initial weights, another DDPM of the smaller shares.
        steps: Optimizer steps of every classifier, whatever it is given.
        ddpm_images: Training images that the DDPM of each smaller share sees.
    """

    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1)
    steps: int = Field(ge=4)
    ddpm_images: int = Field(ge=1)

    @field_validator("shares", "seeds")
    @classmethod
    def _sorted_once(cls, value: list[float]) -> list[float]:
        return rising(value)

    @field_validator("shares")
    @classmethod
    def _up_to_all(cls, value: list[float]) -> list[float]:
        if value[-1] != 1:
            raise ValueError(f"the last must be 1, all training people, found {value[-1]}")
        return value


class ExplanationParameters(Parameters):
    """What explains the classifier's answers.

    Attributes:
        cells: Explained of each class and side.
        evaluations: Images the classifier is asked about for each; the more, the finer. Ratios are comparable only at
            equal numbers.
    """

    cells: int = Field(ge=1)
    evaluations: int = Field(ge=10)


class GuidanceParameters(Parameters):
    """The choice of the scale of classifier-free guidance.

    Attributes:
        scales: Those tried; 1 is none.
        images: Generated at each, classes in equal numbers.
    """

    scales: list[Annotated[float, Field(ge=1)]] = Field(min_length=1)
    images: int = Field(ge=20)


class AblationParameters(Parameters):
    """The study of the number of diffusion steps T; all else of a training is that of the diffusion pipeline.

    Attributes:
        timesteps: Each T that is trained, once with the linear betas as they are and once with betas scaled by
            `reference_timesteps` / T, so that every chain ends in as much noise.
        reference_timesteps: The T that the betas of diffusion.process are meant for; there the two are one.
        epochs: Length of each training, over which its learning rate falls to zero.
        seeds: One training for each seed, T and scaling. With two seeds or more the intervals hold the chance of a
            training, with one only that of the samples.
        images: Images generated by each trained network, all T steps each, classes in equal numbers.
    """

    timesteps: list[int] = Field(min_length=2)
    reference_timesteps: int = Field(ge=4)
    epochs: int = Field(ge=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(min_length=1)
    images: int = Field(ge=20)

    @field_validator("timesteps", "seeds")
    @classmethod
    def _sorted_once(cls, value: list[int]) -> list[int]:
        return rising(value)

    @field_validator("timesteps")
    @classmethod
    def _long_enough(cls, value: list[int]) -> list[int]:
        if value[0] < 4:
            raise ValueError(f"each must be 4 at least, found {value[0]}")
        return value
