"""Are synthetic images cells at all?"""

from __future__ import annotations

from pathlib import Path

from malaria_diffusion.questions.constraint.measure import ANY
from malaria_diffusion.questions.constraint.steps import STEPS
from malaria_diffusion.questions.question import Definition, Headline, Question
from malaria_diffusion.questions.results import Results, only


def headlines(results: Results) -> dict[str, Headline]:
    """The share of synthetic cells that are no cell."""
    what = "share of synthetic cells whose outline is none that cells have"
    row = only(results["constraint_metrics"], violation=ANY, group="all")
    if row is None:
        return {"constraint": {"what": what, "reason": "images without a background have no outline"}}
    names = ("value", "low", "high", "floor", "floor_low", "floor_high", "difference", "difference_low")
    rests_on = f"{row['synthetic_cells']} synthetic cells, {row['real_cells']} real ones of {row['people']} people"
    return {
        "constraint": {"what": what, "rests_on": rests_on} | {name: row[name] for name in (*names, "difference_high")}
    }


QUESTION = Question(
    name="constraint",
    asks="Cells at all?",
    folder=Path(__file__).parent,
    place=75,
    steps=STEPS,
    results=("constraint_metrics",),
    figures=("figure_constraint",),
    definitions={
        "nocell": Definition(
            "No cell",
            "An image without one whole outline: several regions, a hole, cut by the frame, or larger, smaller, less "
            "round or less solid than all but 1 in 200 of training people's cells.",
        )
    },
    headlines=headlines,
    primary="constraint",
    about_model=True,
)
