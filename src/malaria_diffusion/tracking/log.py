"""What nodes tell MLflow. Without an active run (a notebook, a unit test) nothing is logged."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.schema import TensorDatasetSchema
from mlflow.entities import Metric, Run
from mlflow.types import Schema, TensorSpec

from malaria_diffusion.observer import Observer


def set_tags(**tags: str) -> None:
    """Tag the active run."""
    if mlflow.active_run():
        mlflow.set_tags(tags)


def log_figure(figure: Figure, artifact_file: str) -> None:
    """Keep a figure as an artefact of the active run."""
    if mlflow.active_run():
        mlflow.log_figure(figure, artifact_file)


def log_metrics(metrics: dict[str, Any]) -> None:
    """Log every finite number of a nested dict, its keys joined by a slash (MLflow's charts have sections) and dots."""
    run = mlflow.active_run()
    if run is None:
        return
    now = int(time.time() * 1000)
    _log(run, [Metric(key, value, now, 0) for key, value in flat_numbers(metrics).items()])


def log_json(value: dict[str, Any], artifact_file: str) -> None:
    """Keep a dict as an artefact of the active run."""
    if mlflow.active_run():
        mlflow.log_dict(value, artifact_file)


def log_curves(frame: pd.DataFrame, prefix: str) -> None:
    """Log the columns of `frame` as curves over its column images_seen, leaving out what the run has already.

    So all trainings share one axis, a continued training does not log a point twice, and a run that continues another
    run's training holds the whole curve.
    """
    run = mlflow.active_run()
    if run is None:
        return
    client = mlflow.MlflowClient()
    now = int(time.time() * 1000)
    metrics = []
    for column in frame.columns.drop("images_seen"):
        key = f"{prefix}/{column}"
        logged = {point.step for point in client.get_metric_history(run.info.run_id, key)}
        points = frame[["images_seen", column]].dropna()
        metrics += [
            Metric(key, float(value), now, int(at))
            for at, value in points.itertuples(index=False)
            if int(at) not in logged
        ]
    _log(run, metrics)


class MlflowObserver(Observer):
    """Keeps in the active run what the library tells."""

    def log_metrics(self, metrics: dict[str, Any]) -> None:
        """See `log_metrics`."""
        log_metrics(metrics)

    def log_figure(self, figure: Figure, artifact_file: str) -> None:
        """See `log_figure`."""
        log_figure(figure, artifact_file)

    def set_tags(self, **tags: str) -> None:
        """See `set_tags`."""
        set_tags(**tags)

    def log_json(self, value: dict[str, Any], artifact_file: str) -> None:
        """See `log_json`."""
        log_json(value, artifact_file)

    def log_curves(self, frame: pd.DataFrame, prefix: str) -> None:
        """See `log_curves`."""
        log_curves(frame, prefix)


class Cells(Dataset):
    """The cells of one split, as MLflow knows data: a name, a fingerprint, where they are from, how many; no image."""

    def __init__(self, summary: dict[str, Any], split: str) -> None:
        self._counts: dict[str, Any] = summary["splits"][split]
        self._fingerprint: str = summary["fingerprint"]
        self._size = summary["size"]
        source = get_dataset_source_from_json(json.dumps({"uri": summary["source"]}), "local")
        super().__init__(source, f"{summary['images']}, {split}", self._fingerprint)

    def _compute_digest(self) -> str:
        return self._fingerprint

    @property
    def profile(self) -> dict[str, Any]:
        """Counts of people and cells."""
        return self._counts

    @property
    def schema(self) -> TensorDatasetSchema:
        """Images in, labels out."""
        images = TensorSpec(np.dtype(np.uint8), (-1, 3, self._size, self._size), "cells")
        return TensorDatasetSchema(Schema([images]), Schema([TensorSpec(np.dtype(np.str_), (-1,), "label")]))

    def to_dict(self) -> dict[str, str]:
        """What MLflow stores."""
        described = {"profile": json.dumps(self.profile), "schema": json.dumps(self.schema.to_dict())}
        return super().to_dict() | described


def log_cells(summary: dict[str, Any]) -> None:
    """Tell the active run which cells it is about, by split."""
    for split, context in (("train", "training"), ("val", "validation"), ("test", "testing")):
        mlflow.log_input(Cells(summary, split), context)


def flat_numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a nested dict by their path: a slash after the first key, dots after the others."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        # MLflow allows letters, digits, and a few signs in a metric's name
        name = prefix + "".join(sign if sign.isalnum() or sign in "_-. " else "_" for sign in str(key))
        if isinstance(value, dict):
            flat |= flat_numbers(value, name + ("." if prefix else "/"))
        elif isinstance(value, int | float) and math.isfinite(value):
            flat[name] = float(value)
    return flat


def _log(run: Run, metrics: list[Metric]) -> None:
    """As `mlflow.log_metrics`, which would besides file every metric under every model that the run has logged."""
    for start in range(0, len(metrics), 1000):  # MLflow's limit
        mlflow.MlflowClient().log_batch(run.info.run_id, metrics=metrics[start : start + 1000])
