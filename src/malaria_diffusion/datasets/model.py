"""The catalog entry of the diffusion model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from malaria_diffusion.cells.lineage import weights_of
from malaria_diffusion.datasets.finished import CACHE, FinishedPath
from malaria_diffusion.diffusion.model import DiffusionModel


class ModelDataset(AbstractDataset[DiffusionModel, DiffusionModel]):
    """A folder in diffusers' format, see `DiffusionModel`; where the place is a URL, in an object store.

    Only what a run has saved counts as existing, so that whoever asks for missing outputs gets one of their own.

    Args:
        filepath: Of the folder.
        shipped: Where, under "path", a model lies that is read until one has been saved: one of the repository.
        cache: As of `FinishedPath`.
        metadata: For kedro viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        shipped: dict[str, str] | None = None,
        cache: dict[str, str] = CACHE,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder = FinishedPath(filepath=filepath, cache=cache)
        self._shipped = None if shipped is None else Path(shipped["path"])
        self.metadata = metadata

    @property
    def is_shipped(self) -> bool:
        """Whether the model of the repository is read."""
        return self._shipped is not None and not self._exists() and self._shipped.exists()

    @property
    def path(self) -> Path:
        """Of the folder, on this machine.

        Raises:
            DatasetError: there is none.
        """
        return self._shipped if self.is_shipped and self._shipped else self._folder.load()

    def lineage(self) -> dict[str, Any] | None:
        """Of the model, without reading it; None where there is none, of which `load` says more."""
        try:
            found: dict[str, Any] = json.loads((self.path / "lineage.json").read_text())
        except (OSError, ValueError, DatasetError):
            return None
        return found

    def state(self) -> str | None:
        """What tells this model from others, see `weights_of`; None where there is none."""
        lineage = self.lineage() if self._exists() or self.is_shipped else None
        return None if lineage is None else weights_of(lineage)

    def load(self) -> DiffusionModel:
        """Read the model.

        Raises:
            DatasetError: there is none.
            UserError: a file of it is missing, damaged or of another model.
        """
        return DiffusionModel.load(self.path)

    def save(self, data: DiffusionModel) -> None:
        """Write it beside its place and rename; a save that fails leaves the earlier one."""
        with tempfile.TemporaryDirectory() as folder:
            data.save(Path(folder) / "model")
            self._folder.save(Path(folder) / "model")

    def _exists(self) -> bool:
        return self._folder._exists()

    def _describe(self) -> dict[str, Any]:
        return self._folder._describe()
