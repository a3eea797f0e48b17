"""Results, kept in their place and in the MLflow run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import fsspec
import mlflow
from kedro.io import AbstractDataset


class Result(AbstractDataset[Any, Any]):
    """A table, figure, page or JSON file that is also an artefact of the MLflow run that makes it.

    As kedro-mlflow's MlflowArtifactDataset, which logs to the run of the thread that saves (with `--async` one without
    a run), and cannot log what lies in an object store.
    """

    def __init__(self, *, dataset: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        wrapped: Any = AbstractDataset.from_config("wrapped", dataset)
        self._dataset: AbstractDataset[Any, Any] = wrapped
        self.metadata = metadata
        if hasattr(wrapped, "preview"):
            self.preview = wrapped.preview  # of which kedro viz reads the signature

    def load(self) -> Any:
        """What was saved."""
        return self._dataset.load()

    def save(self, data: Any) -> None:
        """Save as the wrapped entry does."""
        self._dataset.save(data)

    def log(self, run_id: str) -> None:
        """Keep what was saved as an artefact of an MLflow run."""
        place = self._dataset._describe()
        if place["protocol"] == "file":
            mlflow.log_artifact(str(place["filepath"]), run_id=run_id)
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / place["filepath"].name
            fsspec.filesystem(place["protocol"]).get_file(str(place["filepath"]), str(copy))
            mlflow.log_artifact(str(copy), run_id=run_id)

    def _exists(self) -> bool:
        return self._dataset.exists()

    def _describe(self) -> dict[str, Any]:
        return self._dataset._describe()
