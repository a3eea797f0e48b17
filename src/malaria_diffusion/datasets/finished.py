"""Catalog entries that a node finishes elsewhere and the catalog then moves into place, whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray

from malaria_diffusion.cells.download import is_url
from malaria_diffusion.datasets.cells import sheet
from malaria_diffusion.datasets.store import Store, digest_of
from malaria_diffusion.files import put_back, whole, write_array

# of the project where the catalog says so: Kedro sees to relative paths under the key `path`
CACHE = {"path": "data/02_intermediate/store"}


class FinishedPath(AbstractDataset[Path, Path]):
    """A file or folder, passed from node to node as its path.

    Saving copies the given file or folder beside its place and renames it, so that a save that fails leaves the
    earlier artefact as it was. Where the place is a URL, the path is that of a local copy, see `datasets.store`, in the
    folder that `cache` has under "path".
    """

    def __init__(self, *, filepath: str, cache: dict[str, str] = CACHE, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = filepath
        self._store = Store(filepath, Path(cache["path"])) if is_url(filepath) else None
        self.metadata = metadata

    def load(self) -> Path:
        """The path.

        Raises:
            DatasetError: nothing is there.
        """
        if not self._exists():
            raise DatasetError(f"{self._filepath}: not there yet")
        return self._store.load() if self._store else Path(self._filepath)

    def save(self, data: Path) -> None:
        """Put a copy of the file or folder `data` in place."""
        if self._store:
            self._store.save(data)
            return
        place = Path(self._filepath)
        with whole(place) as beside:
            shutil.copytree(data, beside) if data.is_dir() else shutil.copy2(data, beside)

    def state(self) -> str | None:
        """What tells this artefact from others, of its content; None where there is none."""
        return digest_of(self.load()) if self._exists() else None

    def _exists(self) -> bool:
        if self._store:
            return self._store.exists()
        put_back(Path(self._filepath))
        return Path(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class MemoryMap(AbstractDataset[NDArray[np.uint8], NDArray[np.uint8]]):
    """Images, uint8, ... x 3 x S x S, in an .npy file, loaded as a read-only memory map and never copied."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> NDArray[np.uint8]:
        """Map the file."""
        images: NDArray[np.uint8] = np.load(self._filepath, mmap_mode="r")
        return images

    def save(self, data: NDArray[np.uint8]) -> None:
        """Write beside the place and rename."""
        with whole(self._filepath) as beside:
            write_array(beside, data)

    def preview(self, rows: int = 8, columns: int = 12) -> ImagePreview:
        """Images from all over the file on one sheet: a PNG in base64, which kedro viz shows."""
        return sheet(self.load(), rows, columns)

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
