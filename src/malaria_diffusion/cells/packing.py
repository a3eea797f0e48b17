"""Stream images of any number into one uint8 memory map, listing what cannot be used."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import Field
from tqdm.auto import tqdm

from malaria_diffusion.cells.decode import BITS, Decoded, RejectedImage, decode
from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.sources import Entry, ImageSource
from malaria_diffusion.config import Parameters
from malaria_diffusion.files import remove, whole

T = TypeVar("T")
R = TypeVar("R")

# images that one thread decodes at a time: threads that meet at every image are slower than one
CHUNK = 32


_Level = Annotated[int, Field(ge=0, le=255)]


class PackingParameters(Parameters):
    """How crops become equal squares.

    Attributes:
        size: Side S of the packed images in pixels; a multiple of 8, as the network halves it.
        background: RGB colour outside the object, 0 to 255.
        common_side: None: every crop fills the frame. A number: this many original pixels become S for all.
        follow_links: Whether links that lead out of the folder of images are read; those that stay inside always are.
        conflicting_labels: What becomes of a file that lies under two labels: every copy is left out, or all images
            are refused.
    """

    size: int = Field(64, ge=16, le=512, multiple_of=8)
    background: tuple[_Level, _Level, _Level] = (0, 0, 0)
    common_side: int | None = Field(default=None, ge=16)
    follow_links: bool = False
    conflicting_labels: Literal["leave_out", "refuse"] = "leave_out"


class PackedCells(NamedTuple):
    """What packing made.

    Attributes:
        cells: uint8 memory map, (N, 3, S, S), RGB.
        table: One row an image, in the order of `cells`: path, name, label, width, height, sha256, phantom, synthetic.
        rejected: One row an image left out, in the order of their paths: path, reason.
        bits: What the grey levels of 16-bit images were taken for, see `decode`; 8 where there are none.
    """

    cells: NDArray[np.uint8]
    table: pd.DataFrame
    rejected: pd.DataFrame
    bits: int


class _MoreBits(Exception):  # noqa: N818  (not a failure: packing starts again)
    """An image is brighter than what was taken for the brightest level."""

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.bits = bits


def pack_cells(source: ImageSource, parameters: PackingParameters, target: Path) -> PackedCells:
    """Decode every image of `source` into the .npy file `target`.

    Memory does not grow with the number of images (but for the table): images are decoded in a few threads,
    Pillow releasing the interpreter, and appended in the order of their paths. 16-bit images of all classes are scaled
    alike, by the bits that the brightest of them needs; one that needs more than those before it starts the work anew.

    Raises:
        CellsError: there is no class, a class without a usable image, a folder that cannot be read, or (with
            `conflicting_labels` "refuse") a file under two labels.
    """
    entries = source.entries(parameters.follow_links)
    # a class whose files are all refused is one that is missing, not one that is not there
    classes = sorted({entry.label for entry in entries if entry.label and entry.is_image})
    _check_folders(source, entries, parameters.follow_links)
    if not classes:
        raise CellsError(
            f"{source.location}: found no class folder; expected a folder of images at least, whose name is the class"
        )
    bits = BITS[0]
    with whole(target) as beside:  # what was packed there before may be in use
        while True:
            try:
                table, rejected = _pack(source, entries, parameters, beside, bits)
                break
            except _MoreBits as found:
                bits = found.bits
        for name in classes:
            if table.empty or not (table["label"] == name).any():
                in_class = [reason for path, reason in rejected.items() if PurePosixPath(path).parent.name == name]
                reasons = pd.Series(in_class).value_counts().head(3).to_dict()
                raise CellsError(
                    f"{source.location}: class folder {name!r} has no usable image; rejected were {reasons}"
                )
    listed = pd.DataFrame(sorted(rejected.items()), columns=["path", "reason"], dtype=object)
    return PackedCells(np.load(target, mmap_mode="r"), table, listed, bits)


def _check_folders(source: ImageSource, entries: Sequence[Entry], follow_links: bool) -> None:
    """Every innermost folder is a class, so it must be readable and hold an image."""
    folders = source.folders(follow_links)
    for folder, refused in sorted(folders.items()):
        if refused is not None:
            raise CellsError(
                f"{source.location}: folder {folder!r} may be a class and would be left out: {refused}; fix that, "
                "or remove the folder"
            )
    leaves = folders.keys() - {str(parent) for folder in folders for parent in PurePosixPath(folder).parents}
    without = sorted(leaves - {str(PurePosixPath(entry.path).parent) for entry in entries if entry.is_image})
    if without:
        raise CellsError(
            f"{source.location}: folder {without[0]!r} holds no image, but every innermost folder is a class; remove "
            "it or fill it"
        )


def _pack(
    source: ImageSource, entries: Sequence[Entry], parameters: PackingParameters, target: Path, bits: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Write the array; return the table of its rows, and why each of the other paths was left out."""
    kept: list[dict[str, object]] = []
    rejected: dict[str, str] = {}
    seen: dict[str, Entry] = {}
    conflicting: dict[str, str] = {}
    shape = (3, parameters.size, parameters.size)

    def usable() -> Iterator[NDArray[np.uint8]]:
        work = lambda entry: _decode_entry(source, entry, parameters, bits)  # noqa: E731
        for entry, outcome in tqdm(_in_order(work, entries), total=len(entries), desc="packing cells", unit="image"):
            if isinstance(outcome, RejectedImage):
                rejected[entry.path] = str(outcome)
                continue
            sha256, decoded = outcome
            if decoded.bits > bits:
                raise _MoreBits(decoded.bits)
            if (first := seen.setdefault(sha256, entry)) is not entry:
                rejected[entry.path] = f"byte-identical: to {first.path}"
                if first.label != entry.label:
                    conflicting.setdefault(sha256, entry.path)
                    rejected[entry.path] = f"conflicting labels: the same file as {first.path}"
                    rejected[first.path] = f"conflicting labels: the same file as {entry.path}"
                continue
            kept.append(
                {
                    "path": entry.path,
                    "name": entry.name,
                    "label": entry.label,
                    "width": decoded.width,
                    "height": decoded.height,
                    "sha256": sha256,
                    "phantom": decoded.phantom,
                    "synthetic": decoded.synthetic,
                }
            )
            yield decoded.pixels

    _append_npy(target, usable(), shape)
    table = pd.DataFrame(kept)
    if conflicting and parameters.conflicting_labels == "refuse":
        sha256, path = next(iter(conflicting.items()))
        raise CellsError(
            f"{source.location}: {seen[sha256].path} and {path} are the same file under two labels "
            f"({len(conflicting)} such files in all); delete the wrong copies, or leave all of them out with "
            "data_processing.packing.conflicting_labels=leave_out"
        )
    if conflicting:  # the first copy was written before the second was met
        rows = np.flatnonzero(~table["sha256"].isin(conflicting))
        everything, kept_only = np.load(target, mmap_mode="r"), target.with_suffix(".kept.npy")
        try:
            _append_npy(kept_only, (everything[row] for row in rows), shape)
            kept_only.replace(target)
        finally:
            remove(kept_only)
        table = table.iloc[rows].reset_index(drop=True)
    return table, rejected


def _decode_entry(
    source: ImageSource, entry: Entry, parameters: PackingParameters, bits: int
) -> tuple[str, Decoded] | RejectedImage:
    if entry.refused is not None:
        return RejectedImage(entry.refused)
    if not entry.label:
        return RejectedImage("not in a class folder")
    try:
        data = source.read(entry)
        decoded = decode(data, parameters.size, parameters.background, parameters.common_side, bits)
    except RejectedImage as error:
        return error
    except Exception as error:  # zipfile and its decompressors raise many kinds on damaged data
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return RejectedImage(f"unreadable: {said}")
    return hashlib.sha256(data).hexdigest(), decoded


def _in_order(work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
    """Like ThreadPoolExecutor.map, but in chunks, and never more than a few results wait in memory."""
    workers = os.cpu_count() or 1
    waiting: deque[tuple[Sequence[T], Future[list[R]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            waiting.append((chunk, pool.submit(lambda chunk: [work(item) for item in chunk], chunk)))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield from zip(first, future.result(), strict=True)
        while waiting:
            first, future = waiting.popleft()
            yield from zip(first, future.result(), strict=True)


def _append_npy(target: Path, rows: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> None:
    """Write `rows` one after the other into an .npy file whose length is known only at the end."""

    def write_header(count: int) -> int:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
        return file.tell()

    with target.open("wb") as file:
        start = write_header(0)
        count = 0
        for row in rows:
            file.write(np.ascontiguousarray(row).data)
            count += 1
        file.seek(0)
        # numpy pads the header so that the first axis can grow; without that the file would be garbage
        if write_header(count) != start:
            raise RuntimeError(f"{target}: the header of {count} images does not fit the {start} bytes kept for it")
