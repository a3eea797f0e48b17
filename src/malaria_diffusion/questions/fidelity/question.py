"""Are synthetic cells like real ones, and as varied?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from malaria_diffusion.questions.distributions.question import ALPHA, levels
from malaria_diffusion.questions.fidelity.inception import SKIPPED
from malaria_diffusion.questions.fidelity.steps import STEPS
from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict
from malaria_diffusion.questions.results import Results, only
from malaria_diffusion.questions.text import number

RECOGNISED = "recognised as intended"
# how often each is worse for a perfect generator, and all are within their margins: benchmarks/coverage.py
DECIDING = {RECOGNISED, "kernel distance", "recall"}
# by which they may be worse than the floor, chosen before the data: a shift of every feature by 0.18 of its deviation
# (the cubic kernel's 3 delta^2), and one unseen cell of ten
MARGINS = {"kernel distance": 0.1, "recall": 0.1}


def headlines(results: Results) -> dict[str, Headline]:
    """Distance and diversity."""
    table = results["fidelity_metrics"]
    return {"fidelity": _headline(table, "kernel distance"), "diversity": _headline(table, "coverage")}


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That synthetic images are very similar to real ones."""
    table, recognised = results["fidelity_metrics"], headlines["recognised"]
    measures = int((table["group"] == "all").sum())
    return [
        Claim(
            "Synthetic images are very similar to real ones",
            "stated",
            f"{len(worse_than_floor(table))} of {measures} measures worse than the floor; recognised as intended "
            f"{number(recognised['synthetic'])}, real {number(recognised['real'])}",
            judge_similarity(results["recognised"], table, results["distribution_tests"], results["descriptor_tests"]),
        )
    ]


def judge_similarity(
    recognised: pd.DataFrame, fidelity: pd.DataFrame, tests: pd.DataFrame, descriptors: pd.DataFrame
) -> Judged:
    """Whether synthetic cells are as similar to unseen ones as real cells of other people are."""
    worse, found = worse_than_floor(fidelity), only(recognised, group="all") or {}
    if found["high"] < 0:
        worse.append(RECOGNISED)
    if DECIDING & {*worse}:
        return Judged(Verdict.REFUTED, f"worse than real cells: {', '.join(worse)}")
    if worse:
        return Judged(Verdict.NOT_DECIDED, f"beyond the floor, exploratory: {', '.join(worse)}")
    ranks = descriptors[descriptors["group"] == "all"].set_index("descriptor")["rank_p_adjusted"]
    if len(apart := ranks.index[ranks < ALPHA]):
        return Judged(Verdict.NOT_DECIDED, f"{', '.join(apart)}: beyond the floor")
    doubtful = [RECOGNISED] * (found["verdict"] != "as real") + beyond_margin(fidelity)
    doubtful += ["intensities"] * (not (levels(tests)["verdict"] == "alike").all())
    doubtful += ["descriptors"] * bool(ranks.isna().any())  # too few people to rank them
    if doubtful:
        return Judged(Verdict.NOT_DECIDED, f"not shown to be alike: {', '.join(doubtful)}")
    return Judged(Verdict.CONFIRMED, "recognition, kernel distance, recall and intensities lie within their margins")


def beyond_margin(fidelity: pd.DataFrame) -> list[str]:
    """Measures with a margin whose difference from the floor has an interval that reaches beyond it."""
    rows = fidelity[(fidelity["group"] == "all") & fidelity["metric"].isin(MARGINS)].set_index("metric")
    reach = rows["difference_high"].where(rows["better"] == "smaller", -rows["difference_low"])
    return [metric for metric, margin in MARGINS.items() if not reach.get(metric, np.nan) < margin]


def worse_than_floor(fidelity: pd.DataFrame) -> list[str]:
    """Measures whose difference from the floor has an interval wholly on the worse side."""
    rows = fidelity[fidelity["group"] == "all"]
    smaller = rows["better"] == "smaller"
    worse = (smaller & (rows["difference_low"] > 0)) | (~smaller & (rows["difference_high"] < 0))
    return rows.loc[worse, "metric"].tolist()


def _headline(table: pd.DataFrame, metric: str) -> Headline:
    row = only(table, metric=metric, group="all") or {}
    names = ("value", "low", "high", "floor", "floor_low", "floor_high", "difference", "difference_low")
    numbers = {name: row[name] for name in (*names, "difference_high")}
    return {"what": metric, "rests_on": f"{row['n']} cells a side"} | numbers


RULES = {
    "Very similar": "refuted if the difference of cells recognised, or of kernel distance or recall from its floor, "
    "has an interval wholly on the worse side of zero; confirmed only if cells are recognised as real ones are, the "
    "intervals of kernel distance and recall end within 0.1 of their floors, the intensities are alike, and nothing "
    "speaks against it: no other measure of fidelity worse than its floor, no descriptor's rank with q < 0.05.",
}

DEFINITIONS = {
    "space": Definition(
        "Feature space", "Activations of the named network, projected on whitened principal components of real cells."
    ),
    "kernel": Definition(
        "Kernel distance",
        "Squared maximum mean discrepancy with KID's cubic kernel, unbiased (Binkowski et al. 2018). Small is alike.",
    ),
    "frechet": Definition(
        "Frechet distance",
        "Between Gaussians with the features' means and covariances (Heusel et al. 2017); biased upwards. "
        "Small is alike.",
    ),
    "sliced": Definition(
        "Sliced Wasserstein distance",
        "Mean over random directions of how far the cells have to be moved along each (Rabin et al. 2012), in standard "
        "deviations of real cells; biased upwards. Small is alike.",
    ),
    "inception": Definition(
        "FID and KID",
        "Frechet and kernel distance in the space of Inception-v3, which learned photographs. KID: unbiased, pairs of "
        "different people. FID: of fewer images than dimensions, so compare it with its floor, of as many images, and "
        "with no other number.",
    ),
    "precision": Definition(
        "Precision and density",
        "Precision: share of synthetic cells within reach of a real one (Kynkaanniemi et al. 2019). Density: how "
        "many real ones reach them (Naeem et al. 2020). Large is good. Intervals: each person is left out, and who is "
        "near whom found anew; rather too wide than too short.",
    ),
    "coverage": Definition(
        "Recall and coverage",
        "Recall: share of real cells within reach of a synthetic one. Coverage: share of real cells with a "
        "synthetic one in their neighbourhood. Large is varied. Intervals as those of precision.",
    ),
}


QUESTION = Question(
    name="fidelity",
    asks="Like real ones, and as varied?",
    folder=Path(__file__).parent,
    place=80,
    steps=STEPS,
    results=("fidelity_metrics", "inception_metrics", "recognised", "distribution_tests", "descriptor_tests"),
    figures=("figure_fidelity",),
    definitions=DEFINITIONS,
    rules=RULES,
    headlines=headlines,
    primary="fidelity",
    about_model=True,
    claims=claims,
    context=lambda results: {"worse": worse_than_floor(results["fidelity_metrics"]), "skipped": SKIPPED},
)
