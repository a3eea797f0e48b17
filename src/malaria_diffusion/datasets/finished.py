"""Catalog entries that a node finishes elsewhere and the catalog then moves into place, whole."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray
from PIL import Image


class FinishedPath(AbstractDataset[Path, Path]):
    """A file or folder, passed from node to node as its path.

    Saving copies the given file or folder beside its place and renames it, so that a save that fails leaves the
    earlier artefact as it was.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """The path.

        Raises:
            DatasetError: nothing is there.
        """
        if not self._filepath.exists():
            raise DatasetError(f"{self._filepath}: not there yet")
        return self._filepath

    def save(self, data: Path) -> None:
        """Put a copy of the file or folder `data` in place."""
        beside = self._filepath.with_name(self._filepath.name + ".tmp")
        _remove(beside)
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data, beside) if data.is_dir() else shutil.copy2(data, beside)
        replace(beside, self._filepath)

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class MemoryMap(AbstractDataset[NDArray, NDArray]):
    """Images, uint8, ... x 3 x S x S, in an .npy file, loaded as a read-only memory map and never copied."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> NDArray:
        """Map the file."""
        return np.load(self._filepath, mmap_mode="r")

    def save(self, data: NDArray) -> None:
        """Move the file of a memory map into place, or write another array beside it and rename."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        beside = self._filepath.with_suffix(".tmp.npy")
        if isinstance(data, np.memmap) and data.filename:
            shutil.move(data.filename, beside)
        else:
            np.save(beside, data)
        beside.replace(self._filepath)

    def preview(self, rows: int = 8, columns: int = 12) -> ImagePreview:
        """Images from all over the file on one sheet: a PNG in base64, which kedro viz shows."""
        cells = self.load()
        cells = cells.reshape(-1, *cells.shape[-3:])
        chosen = cells[np.linspace(0, len(cells) - 1, rows * columns).astype(int)]
        height, width = cells.shape[-2:]
        sheet = chosen.reshape(rows, columns, 3, height, width).transpose(0, 3, 1, 4, 2)
        png = io.BytesIO()
        Image.fromarray(sheet.reshape(rows * height, columns * width, 3)).save(png, "png")
        return ImagePreview(base64.b64encode(png.getvalue()).decode())

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class Workspace(AbstractDataset[None, Path]):
    """A folder for unfinished work: what a killed run needs in order to go on."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """The folder, made if it is not there."""
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: None) -> None:
        """Nodes write into the folder themselves."""
        raise DatasetError("a workspace is given to nodes and never saved")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, whatever is there; a folder is moved aside for the instant it takes."""
    if target.is_dir():
        aside = target.with_name(target.name + ".old")
        _remove(aside)
        target.rename(aside)
        source.rename(target)
        _remove(aside)
    else:
        source.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
