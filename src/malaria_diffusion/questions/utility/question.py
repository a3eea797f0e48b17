"""Are synthetic cells of use to a classifier?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict, bounds
from malaria_diffusion.questions.results import Results, only
from malaria_diffusion.questions.text import interval, percent, signed
from malaria_diffusion.questions.utility.config import Arm
from malaria_diffusion.questions.utility.steps import STEPS

ABOUT = 0.05  # by which an accuracy may be smaller and still be about as good, chosen before the data


def headlines(results: Results) -> dict[str, Headline]:
    """The gain by augmentation with the fewest people."""
    row = smallest_augmentation(results["utility_metrics"])
    what = "gain of accuracy by augmentation, fewest people"
    if row is None:
        return {"utility": {"what": what, "reason": "not among validation.utility.arms, or no share below 1"}}
    line = {
        "what": what,
        "value": row["gain"],
        "share": row["share"],
        "floor": 0.0,
        "rests_on": f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}",
    }
    return {"utility": line | bounds(row["gain_low"], row["gain_high"])}


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That synthetic data improve models."""
    line = headlines["utility"]
    return [
        Claim("Synthetic data complete small data sets and improve models", "stated", _gain(line), judge_help(line)),
        Claim(
            "Synthetic images can train models for research",
            "stated",
            _alone(results["utility_metrics"]),
            judge_alone(results["utility_metrics"]),
        ),
    ]


def smallest_augmentation(table: pd.DataFrame) -> dict[str, Any] | None:
    """The row of augmentation with the fewest people: where the paper expects synthetic cells to help."""
    return only(table[table["arm"] == "augmentation"].sort_values(["share", "steps"], ascending=[True, False]))


def judge_help(gain: dict[str, Any]) -> Judged:
    """Whether cells of a DDPM trained on few people help a classifier of these few."""
    if "reason" in gain:
        return Judged(Verdict.NOT_TESTABLE, gain["reason"])
    if gain["low"] is None:
        return Judged(Verdict.NOT_DECIDED, f"{gain['rests_on']}: too few for an interval")
    if gain["low"] > 0:
        return Judged(Verdict.CONFIRMED, "the interval of the gain is above 0")
    if gain["high"] < 0:
        return Judged(Verdict.REFUTED, "the interval of the gain is below 0")
    return Judged(Verdict.NOT_DECIDED, "the interval of the gain holds 0")


def _gain(line: dict[str, Any]) -> str:
    if "reason" in line:
        return "not measured"
    gain = signed(line["value"], line["low"], line["high"])
    return f"accuracy {gain} with real cells of {percent(line['share'])} of the training people"


def judge_alone(table: pd.DataFrame) -> Judged:
    """Whether a classifier from synthetic cells alone is about as good as one from as many real ones."""
    row = _longest(table)
    if row is None:
        return Judged(Verdict.NOT_TESTABLE, "not among validation.utility.arms")
    if not math.isfinite(row["gain_low"]):
        return Judged(
            Verdict.NOT_DECIDED, f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}: too few for an interval"
        )
    if row["gain_low"] > -ABOUT:
        return Judged(Verdict.CONFIRMED, "less than 5 points below real cells")
    if row["gain_high"] < -ABOUT:
        return Judged(Verdict.REFUTED, "more than 5 points below real cells")
    return Judged(Verdict.NOT_DECIDED, "the interval holds 5 points below real cells")


def _alone(table: pd.DataFrame) -> str:
    row = _longest(table)
    if row is None:
        return "not measured"
    less = signed(row["gain"], row["gain_low"], row["gain_high"])
    return f"alone: accuracy {interval(row['accuracy'], row['low'], row['high'])}, {less} of as many real cells"


def _longest(table: pd.DataFrame) -> dict[str, Any] | None:
    return only(table[table["arm"] == Arm.SYNTHETIC].sort_values("steps", ascending=False))


RULES = {
    "Training models": "confirmed if a classifier from synthetic cells alone is less than 5 points below one from as "
    "many real ones, with the whole interval of the difference; refuted if more.",
    "Help": "confirmed if the interval of the gain by augmentation, with the fewest people, lies above 0; refuted if "
    "below. Of fewer than ten seeds there is no interval.",
}

DEFINITIONS = {
    "augmentation": Definition(
        "Augmentation",
        "A DDPM is trained on the few people alone, and its cells are added to theirs: nothing from outside comes in.",
    ),
    "sharing": Definition(
        "Data sharing", "Cells of the DDPM of all training people are added to those of the few, or given alone."
    ),
    "gain": Definition(
        "Gain",
        "Accuracy less that of the same real cells alone (of synthetic cells alone: less that of as many real "
        "ones), after as many optimizer steps; paired by person and seed. Its interval is for new people and "
        "seeds.",
    ),
}


QUESTION = Question(
    name="utility",
    asks="Of use?",
    folder=Path(__file__).parent,
    place=100,
    steps=STEPS,
    results=("utility_metrics",),
    figures=("figure_utility",),
    definitions=DEFINITIONS,
    rules=RULES,
    headlines=headlines,
    primary="utility",
    about_model=True,
    claims=claims,
)
