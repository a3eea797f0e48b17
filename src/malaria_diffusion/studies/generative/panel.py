"""The diffusion model beside YOLOv8, and both together, on the same cells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.metrics import classification_metrics, prediction_table
from malaria_diffusion.classifier.predictor import Predictor
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.statistics.jackknife import Jackknife
from malaria_diffusion.studies.generative.classifier import GenerativeClassifier
from malaria_diffusion.studies.generative.rule import PairedLogit

MODEL, YOLO, RECALIBRATED = "diffusion model", "YOLOv8", "YOLOv8 recalibrated"
MEAN, FITTED = "mean of log-odds", "weighted log-odds"
JUDGES = [MODEL, YOLO, RECALIBRATED, MEAN, FITTED]
LEAST = 1e-7  # probabilities below it count as it: float32 rounds 1 - p from about there on


class Judged(NamedTuple):
    """What all judges say of some cells.

    Attributes:
        probabilities: By judge, see `JUDGES`, (N, K).
        evaluations: Of the diffusion model's network, of each cell, (N,).
        seconds: A cell, of the diffusion model and of YOLOv8.
    """

    probabilities: dict[str, NDArray[np.float64]]
    evaluations: NDArray[np.int64]
    seconds: dict[str, float]


class Panel(NamedTuple):
    """Both classifiers and how they are put together.

    Attributes:
        model: The diffusion model.
        yolo: YOLOv8.
        of_yolo: Recalibrates YOLOv8's log-probabilities.
        of_both: Weighs those of both.
    """

    model: GenerativeClassifier
    yolo: Predictor
    of_yolo: PairedLogit
    of_both: PairedLogit

    @classmethod
    def fit(cls, model: GenerativeClassifier, yolo: Predictor) -> Self:
        """Fit both weightings to the cells that the diffusion model's rule was chosen by.

        Raises:
            UserError: YOLOv8 knows another number of classes.
        """
        val = model.validated.cells
        theirs = yolo(val.pixels)
        if theirs.shape[1] != len(model.class_names):
            raise UserError(
                f"yolo_classifier knows {theirs.shape[1]} classes, the diffusion model {model.class_names}: train the "
                "classifier on the same cells with `kedro run --pipeline validation`"
            )
        logs = _log_probabilities(model.judge_validated().probabilities, theirs)
        of_yolo, of_both = (PairedLogit.fit(scores, val.classes) for scores in (logs[:, :, 1:], logs))
        return cls(model, yolo, of_yolo, of_both)

    def judge(self, pixels: NDArray[np.uint8], keys: NDArray[np.int64]) -> Judged:
        """Ask all about cells, uint8 (N, 3, S, S), whose noise has these keys (N,)."""
        start = time.perf_counter()
        ours = self.model.judge(pixels, keys)
        between = time.perf_counter()
        theirs = self.yolo(pixels)
        end = time.perf_counter()
        logs = _log_probabilities(ours.probabilities, theirs)
        even = PairedLogit(np.array([0.5, 0.5]), np.zeros(logs.shape[1]))
        found = {
            MODEL: ours.probabilities,
            YOLO: theirs.astype(np.float64),
            RECALIBRATED: np.exp(self.of_yolo.log_probabilities(logs[:, :, 1:])),
            MEAN: np.exp(even.log_probabilities(logs)),
            FITTED: np.exp(self.of_both.log_probabilities(logs)),
        }
        seconds = {MODEL: (between - start) / len(pixels), YOLO: (end - between) / len(pixels)}
        return Judged(found, ours.evaluations, seconds)


def judged_table(judged: Judged, cells: Cells, positive_class: str | None) -> pd.DataFrame:
    """One row a cell and judge: classifier, the columns of `prediction_table`, and evaluations of the model's."""
    parts = [
        prediction_table(cells, probabilities, cells.class_names, positive_class).assign(classifier=judge)
        for judge, probabilities in judged.probabilities.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(evaluations=np.where(table["classifier"] == MODEL, np.tile(judged.evaluations, len(parts)), 0))


def judges_table(predictions: pd.DataFrame, comparison: ComparisonParameters) -> pd.DataFrame:
    """How well each judge does on the same cells, and its accuracy less YOLOv8's.

    Args:
        predictions: See `judged_table`.
        comparison: Positive class, confidence and resamples.

    Returns:
        One row a judge and metric: classifier, metric (see `classification_metrics`, and "accuracy less YOLOv8's"),
        value, low, high; intervals are over people.
    """
    rows: list[dict[str, Any]] = []
    by_judge = dict(list(predictions.groupby("classifier", sort=False)))
    reference = right_of(by_judge[YOLO])
    for judge, table in by_judge.items():
        found = classification_metrics(table, comparison.positive_class, comparison.confidence)
        if judge != YOLO:
            # the same resamples for all
            weights = Bootstrap.of(comparison).weights(table["person"].to_numpy(dtype=str))
            apart = right_of(table) - reference
            drawn = weights @ apart / weights.sum(axis=1)
            bounds = Bootstrap.of(comparison).interval(drawn)._asdict()
            found["accuracy less YOLOv8's"] = {"value": float(apart.mean())} | bounds
        rows += [{"classifier": judge, "metric": metric} | values for metric, values in found.items()]
    return pd.DataFrame(rows)


def agreement(predictions: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """How often the diffusion model and YOLOv8 say the same, and who is right where they do not.

    Returns:
        share, low, high (over people), kappa (Cohen 1960), and numbers of cells: both_right, only_model_right,
        only_yolo_right, both_wrong.
    """
    ours, theirs = (predictions[predictions["classifier"] == judge] for judge in (MODEL, YOLO))
    said, also = ours["predicted"].to_numpy(dtype=str), theirs["predicted"].to_numpy(dtype=str)
    same = said == also
    jackknife = Jackknife(
        lambda weight: {"same": float(np.average(same, weights=weight))}, ours["person"].to_numpy(dtype=str), confidence
    )
    right, right_too = right_of(ours) > 0, right_of(theirs) > 0
    return {
        "share": jackknife.values["same"],
        **jackknife.share("same")._asdict(),
        "kappa": float(cohen_kappa_score(said, also)),
        "both_right": int((right & right_too).sum()),
        "only_model_right": int((right & ~right_too).sum()),
        "only_yolo_right": int((~right & right_too).sum()),
        "both_wrong": int((~right & ~right_too).sum()),
    }


def cost(judged: Judged, model: GenerativeClassifier) -> dict[str, Any]:
    """What a cell costs: network evaluations and seconds, and what elimination saves on validation people."""
    classes = model.validated.cells.classes

    def validated(give_up: float) -> dict[str, float]:
        found = model.judge_validated(give_up)
        accuracy = float((found.probabilities.argmax(axis=1) == classes).mean())
        return {"accuracy": accuracy, "evaluations": float(found.evaluations.mean())}

    quarters = np.quantile(judged.evaluations, [0.25, 0.5, 0.75, 0.9])
    return {
        "evaluations": {
            "mean": float(judged.evaluations.mean()),
            **dict(zip(("quartile_1", "median", "quartile_3", "decile_9"), map(float, quarters), strict=True)),
            "without_elimination": len(model.rule.plan) * len(model.class_names),
        },
        "seconds_per_cell": judged.seconds,
        "validation": {"eliminated": validated(model.give_up), "all_looks": validated(0)},
    }


def rule_summary(model: GenerativeClassifier) -> dict[str, Any]:
    """Which noise is looked at, in which order, and what it is worth."""
    rule, last = model.rule, model.rule.stages[-1]
    timesteps = [level.t for level in rule.levels]
    looked_at = sorted(set(rule.plan))
    return {
        "timesteps": timesteps,
        "log_snrs": [level.log_snr for level in rule.levels],
        "plan": [timesteps[place] for place in rule.plan],
        "weights": {str(timesteps[place]): float(w) for place, w in zip(looked_at, last.weights, strict=True)},
        "bias": dict(zip(model.class_names, map(float, last.bias), strict=True)),
        "validation_cells": len(model.validated.cells),
        "validation_people": len(set(model.validated.cells.people)),
    }


def right_of(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """1 where a cell was called what it is, else 0, (N,)."""
    return np.where(predictions["label"] == predictions["predicted"], 1.0, 0.0)


def accuracies(predictions: pd.DataFrame, confidence: float) -> Mapping[str, dict[str, float]]:
    """Accuracy of each judge with an interval over people: value, low, high."""
    return {
        str(judge): classification_metrics(table, None, confidence)["accuracy"]
        for judge, table in predictions.groupby("classifier", sort=False)
    }


def _log_probabilities(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of both, (N, K, 2)."""
    both = np.stack([ours, theirs], axis=2).astype(np.float64)
    return np.asarray(np.log(both.clip(LEAST, 1)), dtype=np.float64)
