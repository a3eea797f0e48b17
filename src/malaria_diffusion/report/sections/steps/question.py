"""How many diffusion steps does it take?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from malaria_diffusion.questions.question import Claim, Headline, Judged, Question, Verdict
from malaria_diffusion.questions.results import Results, only, records
from malaria_diffusion.questions.text import signed
from malaria_diffusion.studies.ablation.claims import RULE

# as the study has them, as the report has them, as the paper has them, and whether they are of malaria cells only
STEP_CLAIMS = {
    "more steps denoise better": ("More diffusion steps denoise better", "stated", True),
    "training takes longer": ("Training with more steps takes longer", "stated", False),
    "few steps look like overfitting": ("Few steps overfit", "few steps look like overfitting", True),
}


def headlines(results: Results) -> dict[str, Headline]:
    """What the fewest steps cost."""
    table = results.of_these_cells("ablation_claims")
    if table is None:
        return {"steps": {"what": "effects of the number of steps", "reason": "not run: kedro run --pipeline ablation"}}
    row = only(table, claim="more steps denoise better") or {}
    line = {
        "what": f"kernel distance of the fewest less that of the most steps, {row['betas']} betas",
        "value": row["effect"],
        "low": row["low"],
        "high": row["high"],
        "floor": row["margin"],
        "rests_on": row["rests_on"],
    }
    return {"steps": line}


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """What the paper says of the number of steps."""
    table = results.of_these_cells("ablation_claims")
    return [
        Claim(said, paper, _measured(table, claim), judge_steps(table, claim), about_malaria)
        for claim, (said, paper, about_malaria) in STEP_CLAIMS.items()
    ]


def context(results: Results) -> dict[str, Any]:
    """The judged claims of the study."""
    table = results.of_these_cells("ablation_claims")
    return {"steps": None if table is None else records(table)}


def judge_steps(claims: pd.DataFrame | None, claim: str) -> Judged:
    """One of the three claims about the number of steps, over unscaled and scaled betas."""
    if claims is None:
        return Judged(Verdict.NOT_TESTABLE, "not run: kedro run --pipeline ablation")
    rows = claims[claims["claim"] == claim]
    found = set(rows["verdict"])
    if len(found) == 1:
        return Judged(Verdict(found.pop()), "by the rule of the study")
    return Judged(Verdict.NOT_DECIDED, "; ".join(f"{row.betas} betas: {row.verdict}" for row in rows.itertuples()))


def _measured(claims: pd.DataFrame | None, claim: str) -> str:
    if claims is None:
        return "not measured"
    rows = claims[claims["claim"] == claim]
    return "; ".join(
        f"{row['betas']} betas: effect {signed(row['effect'], row['low'], row['high'])}"
        for row in rows.to_dict("records")
    )


RULES = {"Steps": RULE + ". Where unscaled and scaled betas disagree: not decided."}


QUESTION = Question(
    name="steps",
    asks="How many steps?",
    folder=Path(__file__).parent,
    place=120,
    results=("ablation_claims",),
    rules=RULES,
    headlines=headlines,
    primary="steps",
    claims=claims,
    context=context,
)
