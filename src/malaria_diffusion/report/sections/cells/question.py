"""Which cells?"""

from __future__ import annotations

from pathlib import Path

from malaria_diffusion.questions.question import Question
from malaria_diffusion.questions.results import records
from malaria_diffusion.report.sections.cells.steps import STEPS

REJECTED_SHOWN = 20

QUESTION = Question(
    name="cells",
    asks="Which cells?",
    folder=Path(__file__).parent,
    steps=STEPS,
    place=0,
    results=("rejected_cells",),
    figures=("figure_0_dataset",),
    context=lambda results: {"rejected": records(results["rejected_cells"].head(REJECTED_SHOWN))},
)
