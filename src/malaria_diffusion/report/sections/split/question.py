"""How much does the accuracy owe to the split?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict, told
from malaria_diffusion.questions.results import Results, only, records

PAPERS_ACCURACY = 0.97
ABOUT = 0.02  # by which an accuracy may be smaller and still be as the paper's, chosen before the data


def headlines(results: Results) -> dict[str, Headline]:
    """Accuracy by the split of cells that the paper seems to have."""
    what, table = "accuracy, split by cell", results.of_these_cells("protocol_metrics")
    row = None if table is None else only(table, protocol="split by cell", threshold="one half", metric="accuracy")
    if row is None:
        return {"protocols": {"what": what, "reason": "not run: kedro run --pipeline folds"}}
    rests_on = f"{row['cells']:,} cells of {row['people']} people"
    return {"protocols": {"what": what, "rests_on": rests_on} | {name: row[name] for name in ("value", "low", "high")}}


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """The accuracy."""
    accuracy = headlines["accuracy"]
    by_cell = accuracy if results.dataset["split_strategy"] == "cell" else headlines["protocols"]
    return [
        Claim(
            "Accuracy of the classifier",
            "0.97, split not described",
            f"by cell: {told(by_cell)}; {results.dataset['unseen']}: {told(accuracy)}",
            judge_accuracy(by_cell),
        )
    ]


def context(results: Results) -> dict[str, Any]:
    """One row a protocol and threshold, its metrics in a dict."""
    table = results.of_these_cells("protocol_metrics")
    if table is None:
        return {"protocols": None}
    protocols = [
        {
            "protocol": protocol,
            "threshold": threshold,
            "cells": int(part["cells"].iloc[0]),
            "people": int(part["people"].iloc[0]),
            "metrics": {row["metric"]: row for row in records(part)},
        }
        for (protocol, threshold), part in table.groupby(["protocol", "threshold"], sort=False)
    ]
    return {"protocols": protocols}


def judge_accuracy(accuracy: dict[str, Any]) -> Judged:
    """The accuracy of a split by cell against the paper's."""
    if "reason" in accuracy:
        return Judged(Verdict.NOT_TESTABLE, "not run: kedro run --pipeline folds")
    if accuracy["high"] < PAPERS_ACCURACY:
        return Judged(Verdict.REFUTED, "0.97 is above the interval")
    if accuracy["low"] > PAPERS_ACCURACY - ABOUT:
        return Judged(Verdict.CONFIRMED, "0.97 is not above the interval, which begins within 2 points of it")
    return Judged(Verdict.NOT_DECIDED, "the interval holds 0.97, and what is over 2 points below")


RULES = {
    "Accuracy": "refuted if 0.97 lies above the interval of the accuracy by a split of cells; confirmed if not, and "
    "the interval begins within 2 points of it.",
}

DEFINITIONS = {
    "protocol": Definition(
        "Protocol",
        "Who is kept apart: by cell, images of one person train and test, as it seems in the paper; by person they "
        "do not; folds by person judge every cell once.",
    ),
}


QUESTION = Question(
    name="split",
    asks="What does the split decide?",
    folder=Path(__file__).parent,
    place=30,
    results=("protocol_metrics",),
    definitions=DEFINITIONS,
    rules=RULES,
    headlines=headlines,
    primary="protocols",
    claims=claims,
    context=context,
)
