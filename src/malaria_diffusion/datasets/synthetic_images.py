"""Synthetic images as files that other people can use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from malaria_diffusion.cells.archive.export import check_target, publish
from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.download import is_url
from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.sources import ImageSource, open_source


class SyntheticImageFiles(AbstractDataset[Cells, ImageSource]):
    """A zip archive, if the name ends in .zip, or a folder; read back as `raw_cells` is."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        # nobody expands ~ in --params synthetic_images=~/cells
        self._filepath = str(filepath) if is_url(str(filepath)) else str(Path(str(filepath)).expanduser())
        self.metadata = metadata

    def check(self) -> None:
        """Refuse, before hours of sampling, a place where nothing may be written.

        Raises:
            CellsError: it is remote, or something else is there.
        """
        if is_url(self._filepath):
            raise CellsError(f"synthetic_images={self._filepath}: give a local path, and copy the file from there")
        check_target(Path(self._filepath))

    def load(self) -> ImageSource:
        """Open the archive or folder."""
        return open_source(Path(self._filepath))

    def save(self, data: Cells) -> None:
        """Write all images."""
        self.check()
        publish(data, Path(self._filepath))

    def _exists(self) -> bool:
        return Path(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
