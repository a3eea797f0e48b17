"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import shutil
from pathlib import Path


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, whatever is there; a folder is moved aside for the instant it takes."""
    if target.is_dir():
        aside = target.with_name(target.name + ".old")
        remove(aside)
        target.rename(aside)
        source.rename(target)
        remove(aside)
    else:
        source.replace(target)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
