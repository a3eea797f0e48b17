"""What does the classifier look at?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from malaria_diffusion.questions.explanations.measure import MASKER
from malaria_diffusion.questions.explanations.steps import STEPS
from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict, bounds, told
from malaria_diffusion.questions.results import Results, only
from malaria_diffusion.questions.text import number

SPOTS = "dark spots"


def headlines(results: Results) -> dict[str, Headline]:
    """How much of the attribution lies on dark spots."""
    table, positive_class = results["explanations"], results.positive_class
    if positive_class is None:
        reason = "no class is the positive one; see the table"
        return {"explanations": {"what": f"localisation ratio on {SPOTS}", "reason": reason}}
    what = f"localisation ratio on {SPOTS} of {positive_class} real cells"
    where = {"side": "real", "label": positive_class, "mask": SPOTS}
    row, chance = (only(table, network=network, **where) for network in ("trained", "random"))
    if row is None or chance is None:
        return {"explanations": {"what": what, "reason": "no explained cell has both dark spots and attribution"}}
    line = {
        "what": what,
        "value": row["ratio"],
        "floor": chance["ratio"],
        "rests_on": f"{row['cells']} cells of {row['units']} people",
    }
    return {"explanations": line | bounds(row["low"], row["high"])}


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That SHAP is the next step."""
    line = headlines["explanations"]
    random = f", random weights {number(line['floor'])}" if "floor" in line else ""
    return [
        Claim(
            "SHAP is the next step",
            "planned",
            f"done: ratio {told(line)}{random}",
            Judged(Verdict.NOT_TESTABLE, "a plan, carried out here"),
        )
    ]


DEFINITIONS = {
    "shap": Definition(
        "SHAP",
        "Owen values (Lundberg and Lee 2017): what each part of a cell adds to the log-odds of the positive class "
        "(without one: of the cell's own).",
    ),
    "localisation": Definition(
        "Localisation ratio",
        "Share of the attribution on the mask over the mask's share of the cell. 1: the mask is ignored.",
    ),
    "random": Definition(
        "Random weights", "The same network untrained (Adebayo et al. 2018). Only what exceeds its ratio was learned."
    ),
}


QUESTION = Question(
    name="explanations",
    asks="What does the classifier look at?",
    folder=Path(__file__).parent,
    place=110,
    steps=STEPS,
    results=("explanations",),
    figures=("figure_explanations",),
    definitions=DEFINITIONS,
    headlines=headlines,
    primary="explanations",
    claims=claims,
    context=lambda results: {"masker": MASKER},
)
