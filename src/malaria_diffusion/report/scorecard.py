"""The seven criteria of synthetic medical data, each with the numbers of this run that answer it.

Zamzmi et al. 2025, Scorecard for synthetic medical data evaluation, Communications Engineering,
doi 10.1038/s44172-025-00450-1: congruence, coverage, constraint, completeness, compliance, comprehension, consistency.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from malaria_diffusion.questions.question import Headline, told
from malaria_diffusion.questions.results import Results, records
from malaria_diffusion.questions.text import interval, number


class Criterion(NamedTuple):
    """One C.

    Attributes:
        name: Of the criterion.
        asks: What it asks.
        answers: What this run says, in words.
        section: Of the report, which says more.
    """

    name: str
    asks: str
    answers: list[str]
    section: str


def scorecard(results: Results, headlines: Mapping[str, Headline], summary: Mapping[str, Any]) -> list[Criterion]:
    """All seven, in the order of their authors."""

    def said(*names: str) -> list[str]:
        return [_said(headlines[name]) for name in names if name in headlines]

    return [
        Criterion(
            "Congruence", "as real ones are distributed", said("fidelity", "recognised", "intensities"), "fidelity"
        ),
        Criterion("Coverage", "as varied, and new", said("diversity", "novelty"), "fidelity"),
        Criterion("Constraint", "what anatomy allows", said("constraint"), "constraint"),
        Criterion("Completeness", "all that is needed is there", [_completeness(summary)], "diffusion"),
        Criterion("Compliance", "nobody is given away", said("copies", "membership"), "privacy"),
        Criterion("Comprehension", "what it is made of can be understood", said("explanations"), "explanations"),
        Criterion("Consistency", "as good in every part", [_consistency(results)], "fidelity"),
    ]


def _said(line: Headline) -> str:
    more = f", {line['reason']}" if "reason" in line else ""
    if line.get("floor") is not None:
        more = f", floor {number(line['floor'], line['value'])}"
    return f"{line['what']}: {told(line)}{more}"


def _completeness(summary: Mapping[str, Any]) -> str:
    made, classes = summary["ddpm"]["sampling"]["cells_by_class"], summary["dataset"]["classes"]
    there = sum(made.get(name, 0) > 0 for name in classes)
    fewest = min(made.get(name, 0) for name in classes)
    known = "label, seed, solver and model of every one"
    return f"{there} of {len(classes)} classes, at least {fewest:,} cells of each; {known}"


def _consistency(results: Results) -> str:
    table = results["fidelity_metrics"]
    rows = records(table[(table["metric"] == "kernel distance") & (table["group"] != "all")])
    if not rows:
        return "kernel distance by class: not measured, too many classes"
    worst = max(rows, key=lambda row: row["value"] - row["floor"])
    return (
        f"kernel distance of the worst class, {worst['group']}: "
        f"{interval(worst['value'], worst['low'], worst['high'])}, floor {number(worst['floor'], worst['value'])}"
    )
