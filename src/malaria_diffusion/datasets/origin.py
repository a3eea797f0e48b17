"""What a saved result was made of, noted in a small file of the folder `made_of` beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
from kedro.io import AbstractDataset

from malaria_diffusion.cells.download import is_url

FOLDER = "made_of"


def note(name: str, entry: AbstractDataset[Any, Any], made_of: dict[str, str] | None) -> None:
    """Keep of what the result `name`, which lies where `entry` says, was made; None: forget it."""
    files, place = _place(name, entry)
    if made_of is not None:
        files.makedirs(place.rpartition("/")[0], exist_ok=True)
        files.pipe_file(place, json.dumps(made_of).encode())
    elif files.exists(place):
        files.rm_file(place)


def noted(name: str, entry: AbstractDataset[Any, Any]) -> dict[str, str] | None:
    """What `note` has kept; None where that is nothing, or was cut short."""
    files, place = _place(name, entry)
    try:
        return dict(json.loads(files.cat_file(place)))
    except (FileNotFoundError, ValueError):
        return None


def _place(name: str, entry: AbstractDataset[Any, Any]) -> tuple[Any, str]:
    """File system and path; results keep their notes when their folder moves or several environments share it."""
    lies = entry._describe()
    path, protocol = str(lies["filepath"]), lies.get("protocol", "file")
    if protocol == "file" and not is_url(path):
        return fsspec.filesystem("file"), f"{Path(path).parent}/{FOLDER}/{name}.json"
    url = path if is_url(path) else f"{protocol}://{path}"
    files, place = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return files, f"{place.rpartition('/')[0]}/{FOLDER}/{name}.json"
