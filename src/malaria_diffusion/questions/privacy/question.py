"""Are synthetic cells new, or do they give training cells away?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from malaria_diffusion.questions.privacy.steps import STEPS
from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict, told
from malaria_diffusion.questions.results import Results

# an audit that misses half of the copies planted in it says nothing by finding none
FEWEST_CAUGHT = 0.5


def headlines(results: Results) -> dict[str, Headline]:
    """Nearness to members, copies, and the attack on membership."""
    audit = results["privacy_audit"]
    return {
        "novelty": _novelty(audit["novelty"]),
        "copies": _copies(audit["novelty"]),
        "membership": _membership(audit["membership"]),
    }


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That privacy is not compromised."""
    return [
        Claim(
            "Privacy is not compromised",
            "stated",
            f"nearer to members: {told(headlines['novelty'])}; copies: {told(headlines['copies'])}; attack's AUC: "
            f"{told(headlines['membership'])}",
            judge_privacy(results["privacy_audit"]),
        )
    ]


def judge_privacy(audit: dict[str, Any]) -> Judged:
    """Whether the audits found memory of training cells."""
    novelty, membership = audit["novelty"], audit["membership"]
    found = [
        f"nearer to members in {row['space']}"
        for row in novelty["comparison"]
        if row["group"] == "all" and row["low"] > 0.5
    ]
    found += ["copies" for row in novelty["copies"] if row["space"] == "any" and row["verdict"] == "copies found"]
    if membership["testable"] and membership["low"] > 0.5:
        found.append("members told apart")
    if membership["testable"] and membership["by_person"].get("verdict") == "people are told apart":
        found.append("training people told apart")
    if found:
        return Judged(Verdict.REFUTED, ", ".join(found))
    if not (novelty["testable"] and membership["testable"]):
        return Judged(Verdict.NOT_TESTABLE, "too few training people's cells were kept apart")
    if planted_caught(novelty)["recall"] < FEWEST_CAUGHT:
        return Judged(Verdict.NOT_TESTABLE, "the audit misses the copies planted in it")
    return Judged(Verdict.NOT_DECIDED, "nothing found by these audits")


def planted_caught(novelty: dict[str, Any]) -> dict[str, Any]:
    """How many of all planted copies are caught in any space."""
    return next(row for row in novelty["power"] if (row["space"], row["kind"]) == ("any", "all"))


def _novelty(novelty: dict[str, Any]) -> Headline:
    what = "share of synthetic cells nearer to a member than to any non-member"
    if not novelty["testable"]:
        return {"what": what, "reason": novelty["reason"]}
    rows = [row for row in novelty["comparison"] if row["group"] == "all"]
    row = max(rows, key=lambda row: row["low"])
    return {
        "what": f"{what}, in {row['space']}",
        "value": row["share"],
        "low": row["low"],
        "high": row["high"],
        "floor": 0.5,
        "rests_on": f"{row['n']} synthetic cells, {novelty['non_members']} non-members",
    }


def _copies(novelty: dict[str, Any]) -> Headline:
    what = "share of synthetic cells that are copies"
    if not novelty["testable"]:
        return {"what": what, "reason": novelty["reason"]}
    row = next(row for row in novelty["copies"] if row["space"] == "any")
    return {
        "what": what,
        "value": row["share"],
        "low": row["low"],
        "high": row["high"],
        "floor": row["false_alarm_rate"],
        "rests_on": f"{row['n']} synthetic cells",
    }


def _membership(membership: dict[str, Any]) -> Headline:
    what = "AUC of the attack on membership"
    if not membership["testable"]:
        return {"what": what, "reason": membership["reason"]}
    numbers = {"value": membership["auc"], "low": membership["low"], "high": membership["high"], "floor": 0.5}
    number = membership["members"] + membership["non_members"]
    return {"what": what, "rests_on": f"{number} cells of {membership['people']} people"} | numbers


RULES = {
    "Privacy": "refuted if synthetic cells lie nearer to members (interval above 0.5, in pixels or features), if there "
    "are more copies than false alarms, if the attack's interval lies above 0.5, or if training people are told apart. "
    "On the side of alarm: that it is asked in five ways is not corrected for, so that a model that remembers nothing "
    "is refuted in up to one of six studies. Not testable where under half of the copies planted in the audit are "
    "found. Never confirmed: audits that find nothing do not show that nothing is there, and no guarantee "
    "(differential privacy) is given.",
}

DEFINITIONS = {
    "member": Definition(
        "Member and non-member",
        "Member: a cell that trained the diffusion model. Non-member: a cell of the same people that trained "
        "nothing, kept for this audit.",
    ),
    "share": Definition(
        "Share nearer to a member",
        "Share of synthetic cells that are nearer to a member than to any non-member, among as many of each from the "
        "same people and classes (ties half, mean over 20 sets of members); 0.5 is chance. Interval: bootstrap, people "
        "resampled.",
    ),
    "ratio": Definition(
        "Distance ratio",
        "Mean distance to the nearest member over mean distance to the nearest non-member, same sets.",
    ),
    "relative": Definition(
        "Relative distance",
        "Distance to the nearest of all members over the mean distance to the nine next nearest; in pixels the least "
        "of three such ratios: of grey levels, of grey levels whitened by members, and of spectra of rings about the "
        "middle, likewise whitened, which do not feel turns and shifts.",
    ),
    "copy": Definition(
        "Copy",
        "Relative distance below the threshold in some space; threshold: relative distance below which non-members lie "
        "at the stated rate.",
    ),
    "falsealarm": Definition(
        "False alarm rate",
        "Share of new real cells of the same people that would be called copies; of both spaces together at most.",
    ),
    "pcopies": Definition(
        "p of copies",
        "Chance of as many false alarms (beta-binomial, as the threshold is itself estimated; Bonferroni's correction "
        "for several spaces).",
    ),
    "caught": Definition(
        "Caught",
        "Of members planted among the synthetic cells, exact or turned, mirrored, shifted by a pixel or stored as "
        "JPEG, those called copies; near copies are counted by kind.",
    ),
    "attack": Definition(
        "AUC of the attack",
        "Chance that a member has a smaller denoising loss than a non-member of the same person and class, both less "
        "what is expected of so hard an image (area under the ROC curve, mean over people and classes by van "
        "Elteren's weights); 0.5 is chance, 1 is certainty.",
    ),
    "tpr": Definition(
        "TPR",
        "Share of members found by the threshold that takes at most 1 % of non-members for members; 0.01 is chance. "
        "Not stated of fewer than 500 non-members.",
    ),
    "difficulty": Definition(
        "Difficulty",
        "Loss expected of an image of its class, colour, contrast, detail and size, as fitted to validation people's "
        "cells.",
    ),
    "peopleauc": Definition(
        "AUC of people",
        "Chance that a training person has a smaller mean loss than a person of the test, by at most ten cells each, "
        "less what is expected of so hard images; of cells that were trained on, and of cells of the same people that "
        "were not.",
    ),
}


QUESTION = Question(
    name="privacy",
    asks="New, or copied?",
    folder=Path(__file__).parent,
    place=90,
    steps=STEPS,
    results=("privacy_audit", "closest_pairs"),
    figures=("figure_nearest", "figure_closest_pairs", "figure_membership"),
    definitions=DEFINITIONS,
    rules=RULES,
    headlines=headlines,
    primary="membership",
    about_model=True,
    claims=claims,
)
