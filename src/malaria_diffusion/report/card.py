"""The card of a model with what a validation has measured: every number is one of the summary's."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import EvalResult

from malaria_diffusion.cards import fill
from malaria_diffusion.cells.download import is_url
from malaria_diffusion.cells.lineage import refuse_other_summary
from malaria_diffusion.diffusion.card import TASK, Evaluation, model_card
from malaria_diffusion.diffusion.lineage import Lineage
from malaria_diffusion.questions.text import MISSING, interval, number, percent


def evaluated_card(lineage: Lineage, weights: int, summary: dict[str, Any]) -> str:
    """`model_card` with the summary's headlines about synthetic cells.

    Args:
        lineage: Of the model.
        weights: How many its network has.
        summary: See the node `summarise_study`.

    Raises:
        LineageError: the summary is of another model.
    """
    refuse_other_summary(lineage.model_dump(mode="json"), summary)
    return model_card(lineage, weights, _evaluation(summary))


def _evaluation(summary: dict[str, Any]) -> Evaluation:
    dataset, lines = summary["dataset"], summary["headlines"]
    about = {name: line for name, line in lines.items() if line["about"] == "synthetic images"}
    text = fill(
        "evaluation.md",
        dataset=dataset,
        sampling=summary["ddpm"]["sampling"],
        confidence=percent(summary["confidence"]),
        lines=[_row(line) for line in about.values()],
        accuracy=_told(lines["accuracy"]),
    )
    results = [
        _result(name, line, dataset, summary["confidence"])
        for name, line in about.items()
        if "reason" not in line and math.isfinite(line["value"])
    ]
    return Evaluation(results, text, _public(dataset["source"]))


def _public(source: str) -> str | None:
    """A URL without what only its owner may know; of a path, which is of one machine, nothing."""
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if is_url(source) else None


def _row(line: dict[str, Any]) -> dict[str, str]:
    if "reason" in line:
        return {"what": line["what"], "value": "not measured", "floor": MISSING, "rests_on": line["reason"]}
    floor = MISSING
    if "floor" in line:
        floor = interval(line["floor"], line.get("floor_low"), line.get("floor_high"))
    elif "real" in line:
        floor = f"real {number(line['real'])}, synthetic {number(line['synthetic'])}"
    return {"what": line["what"], "value": _told(line), "floor": floor, "rests_on": line["rests_on"]}


def _told(line: dict[str, Any]) -> str:
    return interval(line["value"], line["low"], line["high"])


def _result(name: str, line: dict[str, Any], dataset: dict[str, Any], confidence: float) -> EvalResult:
    """One number for programs; the format has no place for its interval and floor but the metric's arguments."""
    beside = {key: line.get(key) for key in ("low", "high", "floor", "real", "synthetic", "rests_on")}
    return EvalResult(
        task_type=TASK,
        dataset_type=dataset["images"].replace(" ", "-"),
        dataset_name=f"{dataset['images']} of {dataset['unseen']}",
        dataset_split="test",
        dataset_revision=dataset["fingerprint"],
        metric_type=name,
        metric_name=line["what"],
        metric_value=line["value"],
        metric_args={"confidence": confidence} | {key: value for key, value in beside.items() if value is not None},
    )
