"""What a user may set of the classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from malaria_diffusion.compute.config import PrecisionName
from malaria_diffusion.config import Parameters


class ClassifierParameters(Parameters):
    """How the classifier is trained; every value is what the optimizer sees, nothing is rescaled behind it."""

    architecture: str = Field("yolov8n-cls", pattern=r"^yolov8[nsmlx]-cls$")
    weights: str | None = None
    """Initial weights: null from scratch, a path, or an official name such as `yolov8n-cls.pt`."""
    image_size: int = Field(128, ge=32, le=640, multiple_of=32)
    """Side in pixels the cells are resized to (bilinear, antialiased)."""
    epochs: int = Field(8, ge=1)
    batch_size: int = Field(64, ge=2)
    """Cells per optimizer step; batch normalisation needs two."""
    optimizer: Literal["SGD", "Adam", "AdamW"] = "AdamW"
    learning_rate: float = Field(0.001, gt=0, le=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    """Nesterov momentum of SGD, beta1 of Adam and AdamW."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """On convolution and linear weights; biases and normalisation have none."""
    warmup_epochs: float = Field(1, ge=0)
    """Epochs (at most all but the last) over which the learning rate rises linearly from 0."""
    final_learning_rate_fraction: float = Field(0.01, gt=0, le=1)
    """The rate falls linearly, epoch by epoch, towards this fraction of itself at the end of the last epoch."""
    kept_epoch: Literal["best", "last"] = "last"
    """Whose weights are kept: of the best validation accuracy (the latest of equals), or of the last epoch. Where the
    learning rate has fallen to almost nothing and few people validate, the last is the better."""
    flips: bool = True
    """Mirror each training cell left-right, up-down and along the diagonal, each with probability one half: all eight
    mirrorings and turns of a square."""
    colour: float = Field(0.1, ge=0, le=1)
    """Multiply each channel of each training cell by exp(colour z), z standard normal: another stain, another lamp.
    Black stays black."""
    test_time_augmentation: bool = True
    """Classify by the mean over the eight mirrorings and turns of a cell, at eight times the cost; only of a network
    that learned from them (`flips`). The checkpoint carries it, so to change it is to train again."""
    precision: PrecisionName = "auto"
    """Of training: auto is bfloat16 (mixed) where the hardware has it, else float32. Predictions are float32."""
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    @model_validator(mode="after")
    def _views_it_learned_from(self) -> ClassifierParameters:
        if self.test_time_augmentation and not self.flips:
            raise ValueError("test_time_augmentation needs flips: true, else it asks about views never learned from")
        return self


class Recipe(NamedTuple):
    """How classifiers are trained, from what, and where they are kept.

    Attributes:
        parameters: How.
        folder: Holds a folder for each training.
        weights: Initial ones, see `trainer.resolve_weights`; None: from scratch.
    """

    parameters: ClassifierParameters
    folder: Path
    weights: Path | None = None


class FoldParameters(Parameters):
    """Cross-validation by person.

    Attributes:
        number: Folds; each takes as long as the classifier of the validation.
        seed: Of the deal of people to folds.
    """

    number: int = Field(ge=2)
    seed: int = Field(ge=0)
