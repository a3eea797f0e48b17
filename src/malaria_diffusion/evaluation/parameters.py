"""What a user may set of the validation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from malaria_diffusion.parameters import Parameters


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
    flips: bool
    """Mirror each training cell left-right and up-down, each with probability one half."""
    seed: int = Field(ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"]


class ComparisonParameters(Parameters):
    """How results are measured and compared.

    Attributes:
        positive_class: The class that sensitivity is about; all others are negative.
        n: Synthetic cells, and as many unseen real cells, put through the classifier and compared, both classes in
            equal numbers. Fewer are taken if there are fewer, and the number is stated.
        bins: Bins of the intensity histograms, over 0 to 255.
        foreground_threshold: Grey levels by which a pixel must differ from the background in some channel to count
            as part of the cell; the same rule for real and synthetic cells.
        resamples: Bootstrap resamples for intervals, and resplits of people for the margin.
        confidence: Of the intervals.
        seed: Of every choice and resample.
    """

    positive_class: str
    n: int = Field(ge=2)
    bins: int = Field(ge=2, le=256)
    foreground_threshold: int = Field(ge=0, le=254)
    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)
