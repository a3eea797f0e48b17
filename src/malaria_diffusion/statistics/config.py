"""What a user may set of how results are compared."""

from __future__ import annotations

from pydantic import Field

from malaria_diffusion.config import Parameters


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
        permutations: Of images between real and synthetic, and of people between groups, for p-values and ranks.
        margin: Cramer's V up to which distributions are called alike, chosen before the data: 0.15 is a shift by a
            third of the standard deviation. The stronger the claim, the smaller.
        confidence: Of the intervals.
        seed: Of every choice and resample.
    """

    positive_class: str | None = None
    n: int = Field(1000, ge=2)
    bins: int = Field(64, ge=2, le=256)
    foreground_threshold: int = Field(30, ge=-1, le=254)
    resamples: int = Field(1000, ge=100)
    permutations: int = Field(1000, ge=200)
    margin: float = Field(0.15, gt=0, lt=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    seed: int = Field(0, ge=0)
