"""Are synthetic cells recognised as intended?"""

from __future__ import annotations

from pathlib import Path

from malaria_diffusion.questions.question import Definition, Headline, Question
from malaria_diffusion.questions.recognition.steps import STEPS
from malaria_diffusion.questions.results import Results, only


def headlines(results: Results) -> dict[str, Headline]:
    """How many more, or fewer, than real ones are recognised."""
    row = only(results["recognised"], group="all") or {}
    line = {
        "what": "share of synthetic cells recognised as intended, less that of real ones",
        "value": row["difference"],
        "low": row["low"],
        "high": row["high"],
        "synthetic": row["synthetic"],
        "real": row["real"],
        "rests_on": "people left out in turn for real cells, images for synthetic ones",
    }
    return {"recognised": line}


DEFINITIONS = {
    "recognised": Definition(
        "Recognised as intended",
        "Share of cells that the classifier calls what they are or, if synthetic, were meant to be. As real: two "
        "one-sided tests find the difference within 0.05 of zero.",
    ),
}


QUESTION = Question(
    name="recognised",
    asks="Recognised as intended?",
    folder=Path(__file__).parent,
    place=40,
    steps=STEPS,
    results=("recognised",),
    definitions=DEFINITIONS,
    headlines=headlines,
    primary="recognised",
    about_model=True,
)
