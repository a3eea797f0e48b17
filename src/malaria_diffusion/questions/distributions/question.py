"""Do synthetic cells have the intensities and the classifier's scores of real ones?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from malaria_diffusion.questions.distributions.measure import CHANNELS
from malaria_diffusion.questions.distributions.steps import STEPS
from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict, told
from malaria_diffusion.questions.results import Results, only
from malaria_diffusion.questions.text import number, p_value

ALPHA = 0.05


def headlines(results: Results) -> dict[str, Headline]:
    """The effect size of grey levels."""
    row = only(results["distribution_tests"], variable="grey", group="all") or {}
    line = {
        "margin": row["margin"],
        "what": "Cramer's V of grey levels",
        "value": row["v"],
        "low": row["v_low"],
        "high": row["v_high"],
        "floor": row["floor_v"],
        "floor_low": row["floor_v_low"],
        "floor_high": row["floor_v_high"],
        "rests_on": "people left out in turn for real cells, images for synthetic ones",
    }
    return {"intensities": line}


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That intensities agree."""
    tests = results["distribution_tests"]
    grey = only(tests, variable="grey", group="all") or {}
    return [
        Claim(
            "Intensities agree",
            "significant chi-square and KL p-values, taken for good quality",
            f"chi-square {p_value(grey['chi2_p'])}, KL {p_value(grey['g_p'])}: they differ. Real against real: "
            f"{p_value(grey['floor_chi2_p'])}. V {told(headlines['intensities'])}, margin {number(grey['margin'])}",
            judge_intensities(tests),
        )
    ]


def judge_intensities(tests: pd.DataFrame) -> Judged:
    """Whether intensities agree, whatever the pixels' p-values are."""
    rows = levels(tests)
    if (rows["verdict"] == "cannot tell").all():
        return Judged(Verdict.NOT_TESTABLE, "too few people to tell how much people differ")
    if (rows["verdict"] == "alike").all():
        return Judged(Verdict.CONFIRMED, "all within the margin")
    apart = rows[(rows["resplit_q"] < ALPHA) & (rows["verdict"] != "alike")]
    if len(apart):
        return Judged(Verdict.REFUTED, f"{', '.join(apart['variable'])}: further apart than real people are")
    return Judged(Verdict.NOT_DECIDED, "neither within the margin nor beyond what people differ by")


def levels(tests: pd.DataFrame) -> pd.DataFrame:
    """The rows of intensities over all cells."""
    return tests[(tests["group"] == "all") & tests["variable"].isin(CHANNELS)]


RULES = {
    "Intensities": "confirmed if the grey, red, green and blue levels of all cells are alike (V's upper bound within "
    "the margin); refuted if any that is not has a resplit rank with q < 0.05.",
}

DEFINITIONS = {
    "chi2": Definition(
        "Chi-square",
        "Pearson's test on counts of pixels. Small p: the two sides differ. It takes pixels as independent, which "
        "they are not.",
    ),
    "kl": Definition(
        "KL",
        "Log-likelihood ratio: the Kullback-Leibler divergence of the table from independence, times twice the "
        "count. Its p has the fault of chi-square's.",
    ),
    "v": Definition(
        "Cramer's V",
        "Effect size of the chi-square on shares: 0 alike, 1 disjoint; less what chance adds, so that it does not "
        "grow with few cells or people.",
    ),
    "imagep": Definition(
        "Image p", "p of chi-square when images, not pixels, change sides at random within their class."
    ),
    "rank": Definition(
        "Resplit rank",
        "Share of differences between two groups of real people that are as large as that of synthetic cells. "
        "Small: further away than people are from each other.",
    ),
    "q": Definition("q", "p corrected for the number of tests (Benjamini and Hochberg 1995)."),
    "alike": Definition(
        "Alike",
        "V lies within the margin with the stated confidence (one-sided). Else: not shown to be alike, or too few "
        "people to tell.",
    ),
}


QUESTION = Question(
    name="intensities",
    asks="Same intensities?",
    folder=Path(__file__).parent,
    place=50,
    steps=STEPS,
    results=("distribution_tests",),
    figures=("figure_6_distributions",),
    definitions=DEFINITIONS,
    rules=RULES,
    headlines=headlines,
    primary="intensities",
    about_model=True,
    claims=claims,
)
