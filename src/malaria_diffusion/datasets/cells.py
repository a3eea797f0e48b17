"""Catalog entries of cells: images, table and facts together; those of different runs are told and refused."""

from __future__ import annotations

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview
from numpy.typing import NDArray
from PIL import Image

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import PRINTS, fingerprints_of, state_of
from malaria_diffusion.cells.lineage import refuse_other_model
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.files import whole, write_array


class _CellsDataset(AbstractDataset[Cells, Cells]):
    """Images in an .npy file, a table and facts in two files beside it; loaded as a read-only memory map.

    The facts hold fingerprints of both other files, as a kill between renaming the three leaves files of two runs.
    """

    TABLE: ClassVar[str]
    FACTS: ClassVar[str]
    AGAIN: ClassVar[tuple[str, Remedy]]  # how all three are made anew
    _known: ClassVar[dict[tuple[int, ...], dict[str, str]]] = {}  # of files in this state, which are hashed once

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    @property
    def paths(self) -> list[Path]:
        """Of all files: images, table, facts."""
        return [self._filepath, self._filepath.with_name(self.TABLE), self._filepath.with_name(self.FACTS)]

    def facts(self) -> dict[str, Any]:
        """What all cells have in common, without reading these."""
        found: dict[str, Any] = json.loads(self.paths[2].read_text())
        return found

    def preview(self, rows: int = 8, columns: int = 12) -> ImagePreview:
        """Images from all over the file on one sheet: a PNG in base64, which kedro viz shows."""
        return sheet(np.load(self._filepath, mmap_mode="r"), rows, columns)

    def state(self) -> str | None:
        """What tells these cells and their split from others, see `Cells.state`; None where there are none."""
        if not self._exists():
            return None
        return state_of(self.facts()) or self.load().state

    def _check(self, images: NDArray[np.uint8], table: pd.DataFrame, facts: dict[str, Any]) -> dict[str, str]:
        """Make sure that the three are of one run, as far as the facts of an earlier version tell; their fingerprints.

        Raises:
            UserError: they are not.
        """
        states = [path.stat() for path in self.paths[:2]]
        key = tuple(number for state in states for number in (state.st_ino, state.st_mtime_ns, state.st_size))
        if key not in self._known:
            self._known[key] = fingerprints_of(images, table)
        found = self._known[key]
        stated = {name: facts.get(name, found[name]) for name in PRINTS}
        if stated != found:
            names, (again, remedy) = [path.stem for path in self.paths], self.AGAIN
            raise UserError(
                f"{names[0]} and {names[1]} are of data {'-'.join(found.values())}, {names[2]} of "
                f"{'-'.join(stated.values())}: they are from different runs; {again}",
                remedy,
            )
        return found

    def _write(self, cells: Cells, facts: dict[str, Any]) -> None:
        images, table, about = self.paths
        with whole(images) as beside, whole(table) as beside_table, whole(about) as beside_facts:
            if isinstance(cells.images, np.memmap) and cells.images.filename:
                shutil.move(cells.images.filename, beside)
            else:
                write_array(beside, cells.images)
            cells.table.to_parquet(beside_table)
            beside_facts.write_text(json.dumps(facts))

    def _exists(self) -> bool:
        return all(path.exists() for path in self.paths)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class PackedCells(_CellsDataset):
    """Packed cells with `cell_table.parquet` and `dataset_summary.json`, which must be of the same run."""

    TABLE, FACTS = "cell_table.parquet", "dataset_summary.json"
    AGAIN = "pack and split again", Remedy.DATA

    def load(self) -> Cells:
        """Map the images, read the rest, and make sure that they belong together.

        Raises:
            UserError: they do not.
        """
        images, table = np.load(self._filepath, mmap_mode="r"), pd.read_parquet(self.paths[1])
        about = self.facts()
        return Cells(images, table, about | self._check(images, table, about))

    def save(self, data: Cells) -> None:
        """Move the file of a memory map into place, or write another array; all files appear together."""
        self._write(data, data.about)


class SyntheticCells(_CellsDataset):
    """Generated cells with `synthetic_table.parquet` and `synthetic_lineage.json`, which must be of the same run."""

    TABLE, FACTS = "synthetic_table.parquet", "synthetic_lineage.json"
    AGAIN = "sample again", Remedy.SAMPLING

    def load(self) -> Cells:
        """Map the images, read the rest, and make sure that they belong together.

        Raises:
            UserError: they do not.
        """
        images, table = np.load(self._filepath, mmap_mode="r"), pd.read_parquet(self.paths[1])
        facts = self.facts()
        refuse_other_model(images, table, facts)
        found = self._check(images, table, facts)
        cells = Cells.of_model(images, table, {name: fact for name, fact in facts.items() if name not in PRINTS})
        return replace(cells, about=cells.about | found)

    def save(self, data: Cells) -> None:
        """Write beside and rename; all files appear together."""
        self._write(data, (data.lineage or {}) | fingerprints_of(data.pixels, data.table))


def sheet(images: NDArray[np.uint8], rows: int, columns: int) -> ImagePreview:
    """Some of the images, uint8 (..., 3, S, S), from all over the array, as a PNG in base64."""
    images = images.reshape(-1, *images.shape[-3:])
    chosen = images[np.linspace(0, len(images) - 1, rows * columns).astype(int)]
    height, width = images.shape[-2:]
    pixels = chosen.reshape(rows, columns, 3, height, width).transpose(0, 3, 1, 4, 2)
    png = io.BytesIO()
    Image.fromarray(pixels.reshape(rows * height, columns * width, 3)).save(png, "png")
    return ImagePreview(base64.b64encode(png.getvalue()).decode())
