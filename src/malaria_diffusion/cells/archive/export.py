"""Synthetic images as files for other people, which say in every place one may look that they are synthetic.

Class folders of PNG files with text chunks and XMP metadata, a manifest (CSV and JSON), a card (README.md) and the same
for programs (croissant.json), in a zip archive or a folder: the layout that this project reads itself.
"""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm.auto import tqdm

from malaria_diffusion.cells.archive.card import dataset_card
from malaria_diffusion.cells.archive.croissant import croissant
from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.decode import PHANTOM_KEY, SOURCE_KEY, SYNTHETIC
from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.marking import XMP, XMP_KEY
from malaria_diffusion.config import escaped
from malaria_diffusion.errors import Remedy
from malaria_diffusion.files import whole

MANIFEST = "manifest.json"
SETTINGS = ("seed", "solver", "evaluations", "guidance", "variance", "clipping")

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def publish(cells: Cells, target: Path) -> None:
    """Write a zip archive, if the name of `target` ends in .zip, or else a folder; earlier ones of ours are replaced.

    The bytes depend on the arguments only. Images are written one at a time.

    Args:
        cells: Generated ones: their table has the columns index, label, those of `SETTINGS`, model_identity,
            cells_fingerprint and training_people_hash.
        target: Where to.

    Raises:
        CellsError: something else is at `target`.
    """
    check_target(target)
    with whole(target) as beside:
        if _is_zip(target):
            with zipfile.ZipFile(beside, "w") as archive:
                for name, content in _files(cells):
                    info = zipfile.ZipInfo(name, _ZIP_TIME)
                    info.create_system, info.external_attr = 3, 0o644 << 16  # the same on every system
                    archive.writestr(info, content)
        else:
            for name, content in _files(cells):
                path = beside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


def check_target(target: Path) -> None:
    """Make sure that nothing but an earlier publication would be replaced.

    Raises:
        CellsError: something else is at `target`.
    """
    other = "give another place, or move it away"
    if target.is_dir() == _is_zip(target) and target.exists():
        kind = "folder" if target.is_dir() else "file"
        raise CellsError(
            f"{target}: found a {kind}; a name that ends in .zip is for an archive, others for folders; {other}",
            Remedy.OTHER_PLACE,
        )
    if _is_zip(target) and target.exists():
        ours = zipfile.is_zipfile(target) and MANIFEST in zipfile.ZipFile(target).namelist()
    else:
        ours = not target.exists() or not any(target.iterdir()) or (target / MANIFEST).exists()
    if not ours:
        raise CellsError(
            f"{target}: holds something else than synthetic images, which would be lost; {other}", Remedy.OTHER_PLACE
        )


def _is_zip(target: Path) -> bool:
    return target.suffix.lower() == ".zip"


def _files(cells: Cells) -> Iterator[tuple[str, bytes]]:
    """Names with forward slashes, and contents, in a fixed order."""
    table = cells.table
    common = _manifest(table, cells.lineage or {})
    rows = table.assign(file=table["label"] + "/" + table["index"].map("{:06d}.png".format), synthetic="true")
    columns = ["file", "label", "index", *(name for name in rows if name not in {"file", "label", "index"})]
    manifest = rows[columns].to_csv(index=False, lineterminator="\n").encode()
    yield "README.md", dataset_card(common, cells.size).encode()
    yield MANIFEST, _json(common)
    yield "manifest.csv", manifest
    yield "croissant.json", _json(croissant(common, manifest))
    about = {
        "Software": common["software"],
        SOURCE_KEY: SYNTHETIC,
        "Description": f"a synthetic image by a diffusion model trained on {common['model']['trained_on']}",
        "Disclaimer": "not for diagnosis",
    }
    if cells.phantom:
        about[PHANTOM_KEY] = "trained on phantom cells"
    records = zip(rows["file"], table.to_dict("records"), cells.pixels, strict=True)
    for name, row, cell in tqdm(records, total=len(rows), desc="writing images", unit="image"):
        yield name, _png(cell, about | {str(key): value for key, value in row.items()})


def _png(cell: NDArray[np.uint8], text: dict[str, Any]) -> bytes:
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, str(value))
    info.add_itxt(XMP_KEY, XMP)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(cell.transpose(1, 2, 0))).save(file, "png", pnginfo=info)
    return file.getvalue()


def _manifest(table: pd.DataFrame, lineage: dict[str, Any]) -> dict[str, Any]:
    """What all images have in common; names no person."""
    counts = {name: int((table["label"] == name).sum()) for name in lineage["class_names"]}
    settings = {name: table[name].iloc[0] for name in SETTINGS}
    settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    return {
        "synthetic": True,
        "use": "not for diagnosis",
        "software": f"malaria_diffusion {metadata.version('malaria_diffusion')}",
        "images": counts,
        "sampling": settings,
        "model": {
            "identity": lineage["identity"],
            "trained_on": "phantom cells" if lineage["phantom"] else "real cells",
            "training_cells": len(lineage["training_cells"]),
            "training_people": len(lineage["training_people"]),
            "training_people_hash": lineage["training_people_hash"],
            "cells_fingerprint": lineage["cells_fingerprint"],
        },
        "command": _command(counts, settings),
    }


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _command(counts: dict[str, int], settings: dict[str, Any]) -> str:
    """What to type for the same images."""
    settings = settings | ({"evaluations": "null"} if settings["solver"] == "ancestral" else {})
    if len(set(counts.values())) == 1:
        values = {"count": next(iter(counts.values()))} | settings
    else:
        values = {f"count.{escaped(name)}": count for name, count in counts.items()} | settings
    parameters = ",".join(f"diffusion.sampling.{name}={value}" for name, value in values.items())
    return f"kedro run --pipeline diffusion --tags sample --params {shlex.quote(parameters)}"
