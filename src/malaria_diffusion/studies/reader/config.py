"""What a user may set of the reader study."""

from __future__ import annotations

from pydantic import Field

from malaria_diffusion.config import Parameters


class ReaderStudyParameters(Parameters):
    """A sheet for readers, and how it will be judged: all of it is sealed in the key before anybody reads.

    Attributes:
        cells: Real cells of test people on the sheet, and as many synthetic ones; of every class equally many, so of
            three classes and 50 cells 48.
        practice: Cells of training people that are shown first with their labels, of each class.
        side: Of a cell on the screen, in CSS pixels.
        margin: By how much an accuracy may differ from one half and still be called no better than chance.
        confidence: Of the intervals.
        seed: Of the choice of cells, their order and their names. Whoever has the cells and the seed has the key.
    """

    cells: int = Field(ge=2)
    practice: int = Field(ge=0)
    side: int = Field(ge=64, le=1024)
    margin: float = Field(gt=0, lt=0.5)
    confidence: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)
