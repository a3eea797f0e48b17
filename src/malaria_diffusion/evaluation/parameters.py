"""What a user may set of the validation."""

from __future__ import annotations

from pydantic import Field

from malaria_diffusion.parameters import Parameters


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
