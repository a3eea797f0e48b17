"""Files and folders that appear whole or not at all: written beside their place, then renamed; and locks on them."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@contextmanager
def whole(place: Path) -> Iterator[Path]:
    """A path beside `place` to write to in the `with` block, renamed to `place` at its end, or removed where it fails.

    An error of the file system that names no file, as that of a full disk, is given the name of `place`.
    """
    beside = place.with_name(f"{place.stem}.tmp{place.suffix}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        remove(beside)
        yield beside
        replace(beside, place)
    except BaseException as error:
        remove(beside)
        name_file(error, place)
        raise


def name_file(error: BaseException, path: Path) -> None:
    """Tell an error of the file system which file it is about, if it does not know."""
    if isinstance(error, OSError) and error.errno and error.filename is None:
        error.filename = str(path)


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_array(path: Path, array: NDArray[Any]) -> None:
    """As `numpy.save`, whose error on a full disk has no word about the disk."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
        file.write(array.data)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that ask for the same `path` waiting during the `with` block, and tell them for whom."""
    lock, holder = (path.with_name(path.name + suffix) for suffix in (".lock", ".holder"))
    path.parent.mkdir(parents=True, exist_ok=True)
    turn = FileLock(lock)
    try:
        turn.acquire(timeout=1)
    except Timeout:
        known = ""
        with suppress(OSError):  # it ends just now
            known = f" ({holder.read_text(encoding='utf-8')})"
        logger.info("another run%s is at work on %s: waiting for its end", known, path)
        turn.acquire()
    try:
        with suppress(OSError):  # a full disk keeps nobody from working
            command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
            holder.write_text(f"process {os.getpid()} on {platform.node()}: {command}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        turn.release()


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, whatever is there; a folder is moved aside for the instant it takes."""
    aside = _aside(target)
    if target.is_dir():
        remove(aside)
        try:
            target.rename(aside)
            source.rename(target)
        except BaseException:
            put_back(target)
            raise
    else:
        source.replace(target)
    remove(aside)


def put_back(target: Path) -> None:
    """Undo a `replace` that a kill has ended halfway: where nothing is in place, what was moved aside comes back."""
    if _aside(target).is_dir() and not target.exists():
        _aside(target).rename(target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
