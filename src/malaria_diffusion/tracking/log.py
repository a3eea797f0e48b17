"""What nodes tell MLflow. Without an active run (a notebook, a unit test) nothing is logged."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.schema import TensorDatasetSchema
from mlflow.entities import Metric, Param, Run
from mlflow.types import Schema, TensorSpec

from malaria_diffusion.observer import Observer

logger = logging.getLogger(__name__)

PARENT = "mlflow.parentRunId"
# of the parent's tags that MLflow makes, those that a child has as well
INHERITED = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")


class MlflowObserver(Observer):
    """Keeps in the active run, or in one below it, what the library tells; without either, nothing.

    Args:
        run: Below the active one, see `child_run`; None: the active run.
    """

    def __init__(self, run: Run | None = None) -> None:
        self._run = run

    def set_tags(self, **tags: str) -> None:
        """Tag the active run."""
        if mlflow.active_run():
            mlflow.set_tags(tags)

    def log_figure(self, figure: Figure, artifact_file: str) -> None:
        """Keep a figure as an artefact of the active run."""
        if mlflow.active_run():
            mlflow.log_figure(figure, artifact_file)

    def log_json(self, value: dict[str, Any], artifact_file: str) -> None:
        """Keep a dict as an artefact of the active run."""
        if mlflow.active_run():
            mlflow.log_dict(value, artifact_file)

    def log_metrics(self, metrics: dict[str, Any]) -> None:
        """Log every finite number of a nested dict, its keys joined by a slash (MLflow's sections) and dots."""
        if run := self._run or mlflow.active_run():
            now = int(time.time() * 1000)
            _log(run, [Metric(key, value, now, 0) for key, value in flat_numbers(metrics).items()])

    def log_curves(self, frame: pd.DataFrame, prefix: str) -> None:
        """Log the columns of `frame` as curves over its column images_seen, leaving out what the run has already.

        So all trainings share one axis, a continued training does not log a point twice, and a run that continues
        another run's training holds the whole curve.

        Args:
            frame: One row a point.
            prefix: Of the curves' names.
        """
        run = self._run or mlflow.active_run()
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

    @contextmanager
    def child_run(self, name: str, parameters: dict[str, Any]) -> Iterator[Observer]:
        """A run below the active one, for one training of several; where no run is active, none.

        The active run stays the parent. A child of that name below this parent is gone on with, so that a command that
        is given again after a kill has no child twice. A training that is finished already, by whatever run, has its
        child below this parent, too, with the same metrics; that it was read shows in the child's duration.

        The child has the parent's tags but `pipeline`, which it has as `part_of`: a search for the runs of a pipeline
        finds whole runs alone.

        Args:
            name: Of the child, one in its parent.
            parameters: Of the child alone.
        """
        parent = mlflow.active_run()
        if parent is None:
            yield self
            return
        client = mlflow.MlflowClient()
        child = next((run for run in children(parent) if run.info.run_name == name), None)
        if child is None:
            child = _make_child(client, parent, name, parameters)
        else:
            client.update_run(child.info.run_id, status="RUNNING")
        try:
            yield MlflowObserver(child)
        except BaseException as error:
            try:
                client.set_terminated(child.info.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            except Exception as another:  # of databases, servers and disks: the first error is told
                logger.warning("the MLflow run %s could not be closed (%s)", child.info.run_id, another)
            raise
        client.set_terminated(child.info.run_id, "FINISHED")


def children(parent: Run) -> list[Run]:
    """The runs below a run."""
    found: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = mlflow.MlflowClient().search_runs(
            [parent.info.experiment_id], f"tags.`{PARENT}` = '{parent.info.run_id}'", page_token=token or None
        )
        found += page
        token = page.token or None
    return found


def _make_child(client: mlflow.MlflowClient, parent: Run, name: str, parameters: dict[str, Any]) -> Run:
    given = client.get_run(parent.info.run_id).data.tags  # those of the active run are of its start
    tags = {key: value for key, value in given.items() if key in INHERITED or not key.startswith("mlflow.")}
    tags |= {PARENT: parent.info.run_id}
    if "pipeline" in tags:
        tags["part_of"] = tags.pop("pipeline")
    child = client.create_run(parent.info.experiment_id, tags=tags, run_name=name)
    client.log_batch(child.info.run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
    return child


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
