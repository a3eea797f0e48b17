"""What nodes tell MLflow. Without an active run (a notebook, a unit test) nothing is logged."""

from __future__ import annotations

import math
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from matplotlib.figure import Figure
from mlflow.entities import Metric


def set_tags(**tags: str) -> None:
    """Tag the active run."""
    if mlflow.active_run():
        mlflow.set_tags(tags)


def log_figure(figure: Figure, artifact_file: str) -> None:
    """Keep a figure as an artefact of the active run."""
    if mlflow.active_run():
        mlflow.log_figure(figure, artifact_file)


def log_metrics(metrics: dict[str, Any]) -> None:
    """Log every finite number of a nested dict, its keys joined by dots."""
    if mlflow.active_run():
        mlflow.log_metrics(flat_numbers(metrics))


def log_curves(frame: pd.DataFrame, step: str, prefix: str) -> None:
    """Log the other columns of `frame` as curves over the column `step`, leaving out what the run has already.

    So a continued training does not log a step twice, and a run that continues another run's training holds the
    whole curve.
    """
    run = mlflow.active_run()
    if run is None:
        return
    client = mlflow.MlflowClient()
    now = int(time.time() * 1000)
    metrics = []
    for column in frame.columns.drop(step):
        key = f"{prefix}.{column}"
        logged = {point.step for point in client.get_metric_history(run.info.run_id, key)}
        points = frame[[step, column]].dropna()
        metrics += [
            Metric(key, float(value), now, int(at))
            for at, value in points.itertuples(index=False)
            if int(at) not in logged
        ]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + 1000])


def code_version() -> str:
    """Commit of the project's checkout, "-dirty" if files differ from it; the package's version outside git."""
    try:
        _git("ls-files", "--error-unmatch", __file__)  # an environment may lie in the checkout of another project
        return _git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return metadata.version("malaria_diffusion")


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=here, check=True, capture_output=True, text=True).stdout.strip()


def flat_numbers(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a nested dict, keyed by their dotted path."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        # MLflow allows letters, digits, and a few signs in a metric's name
        name = prefix + "".join(sign if sign.isalnum() or sign in "_-. /" else "_" for sign in str(key))
        if isinstance(value, dict):
            flat |= flat_numbers(value, name + ".")
        elif isinstance(value, int | float) and math.isfinite(value):
            flat[name] = float(value)
    return flat
