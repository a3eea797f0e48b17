"""What a user may set of explanations."""

from __future__ import annotations

from pydantic import Field

from malaria_diffusion.config import Parameters


class ExplanationParameters(Parameters):
    """What explains the classifier's answers.

    Attributes:
        cells: Explained of each class and side.
        evaluations: Images the classifier is asked about for each; the more, the finer. Ratios are comparable only at
            equal numbers.
    """

    cells: int = Field(24, ge=1)
    evaluations: int = Field(500, ge=10)
