"""A catalog entry for the images as their publisher gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from malaria_diffusion.cells.download import Published, fetch, is_url
from malaria_diffusion.cells.sources import ImageSource, open_source
from malaria_diffusion.files import locked


class RawCells(AbstractDataset[None, ImageSource]):
    """A zip archive or folder of class folders, local or behind any URL fsspec understands.

    A URL is fetched once into the folder that `cache` has under "path" (a key whose relative paths Kedro takes to be of
    the project, wherever the command is given); what `published` says of it (size in bytes, sha256) is checked.
    """

    def __init__(
        self,
        *,
        filepath: str,
        cache: dict[str, str],
        published: dict[str, dict[str, Any]] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        # nobody expands ~ in --params raw_cells=~/cells
        self._location = str(filepath) if is_url(str(filepath)) else str(Path(str(filepath)).expanduser())
        self._cache = Path(cache["path"])
        self._published = {url: Published(**stated) for url, stated in (published or {}).items()}
        self.metadata = metadata

    def load(self) -> ImageSource:
        """Open the source, fetching it first if it is remote."""
        location = self._location
        if is_url(location):
            with locked(self._cache / "downloads"):
                local = fetch(location, self._cache, self._published.get(location))
            return open_source(local)
        return open_source(Path(location))

    def save(self, data: None) -> NoReturn:
        """Raw images are never written."""
        raise DatasetError("raw_cells is what a publisher gives; it is read and never written")

    def state(self) -> list[Any]:
        """What tells this source from another or an older one, without reading it."""
        path = Path(self._location)
        if is_url(self._location) or not path.exists():
            return [self._location]
        return [self._location, path.stat().st_size, path.stat().st_mtime_ns]

    def _exists(self) -> bool:
        return is_url(self._location) or Path(self._location).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._location}
