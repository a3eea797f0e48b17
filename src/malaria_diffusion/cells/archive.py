"""Where images come from: a zip archive or a folder of class folders.

The class of an image is the name of the folder it lies in, however deep that folder is. Nothing is ever
extracted to disk: images are read as bytes, one at a time.
"""

from __future__ import annotations

import stat
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from malaria_diffusion.cells.errors import CellsError

IGNORED_NAMES = {"thumbs.db", "desktop.ini"}
MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Entry:
    """One file of a source.

    Attributes:
        path: Path inside the source, with forward slashes.
        refused: Why it must not be read, or None.
    """

    path: str
    refused: str | None = None

    @property
    def name(self) -> str:
        """File name without folders."""
        return PurePosixPath(self.path).name

    @property
    def is_image(self) -> bool:
        """Whether the file's suffix is one that Pillow knows; only such files make their folder a class."""
        return PurePosixPath(self.path).suffix.lower() in Image.registered_extensions()

    @property
    def label(self) -> str:
        """Class name: the name of the folder the file lies in."""
        return PurePosixPath(self.path).parent.name


class ImageSource(ABC):
    """Files with class folders around them, readable in any order and from several threads."""

    def __init__(self, location: Path) -> None:
        self.location = location

    def entries(self) -> list[Entry]:
        """All files sorted by path, without what operating systems leave behind and texts beside the class folders."""
        found = [entry for entry in self._scan() if not _is_litter(entry.path) and (entry.label or entry.is_image)]
        return sorted(found, key=lambda entry: entry.path)

    @abstractmethod
    def folders(self) -> set[str]:
        """Paths of all folders, also of those without a file."""

    @abstractmethod
    def _scan(self) -> Iterator[Entry]: ...

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """The bytes of one file."""


class ZipSource(ImageSource):
    """A zip archive."""

    def __init__(self, location: Path) -> None:
        super().__init__(location)
        try:
            self._zip = zipfile.ZipFile(location)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise CellsError(
                f"{location}: not a readable zip archive ({error}); expected a zip of class folders, "
                "give another with --params raw_cells=PATH"
            ) from error

    def _scan(self) -> Iterator[Entry]:
        for info in self._zip.infolist():
            if not info.filename.endswith("/"):
                yield Entry(info.filename, _zip_refusal(info))

    def folders(self) -> set[str]:
        """Folders with an entry of their own, and those that files lie in."""
        names = self._zip.namelist()
        own = {name.rstrip("/") for name in names if name.endswith("/")}
        return {
            folder for folder in own | {str(PurePosixPath(name).parent) for name in names} if _is_class_like(folder)
        }

    def read(self, entry: Entry) -> bytes:
        """The bytes of one entry, its checksum verified by zipfile."""
        return self._zip.read(entry.path)


class FolderSource(ImageSource):
    """A folder on disk."""

    def _scan(self) -> Iterator[Entry]:
        root = self.location.resolve()
        for path in self.location.rglob("*"):
            if not path.is_file():
                continue
            refused = None
            if not path.resolve().is_relative_to(root):
                refused = "a link that points outside the folder"
            elif path.stat().st_size > MAX_FILE_BYTES:
                refused = f"file larger than {MAX_FILE_BYTES >> 20} MiB"
            yield Entry(path.relative_to(self.location).as_posix(), refused)

    def folders(self) -> set[str]:
        """All folders below the given one."""
        below = (path.relative_to(self.location).as_posix() for path in self.location.rglob("*") if path.is_dir())
        return {folder for folder in below if _is_class_like(folder)}

    def read(self, entry: Entry) -> bytes:
        """The bytes of one file."""
        return (self.location / entry.path).read_bytes()


def open_source(location: Path) -> ImageSource:
    """Open a local zip archive or folder.

    Raises:
        CellsError: nothing is there, or it is neither a folder nor a zip archive.
    """
    if location.is_dir():
        return FolderSource(location)
    if location.is_file():
        return ZipSource(location)
    raise CellsError(
        f"{location}: no such file or folder; expected a zip or a folder of class folders, "
        "give one with --params raw_cells=PATH"
    )


def _is_litter(path: str) -> bool:
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    return hidden or "__MACOSX" in parts or PurePosixPath(path).name.lower() in IGNORED_NAMES


def _is_class_like(folder: str) -> bool:
    return folder not in {"", "."} and not _is_litter(folder)


def _zip_refusal(info: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(info.filename.replace("\\", "/"))
    if not path.parts:
        return "no file name"
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return "path points outside the archive"
    if info.flag_bits & 0x1:
        return "encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "symbolic link"
    if info.file_size > MAX_FILE_BYTES:
        return f"file larger than {MAX_FILE_BYTES >> 20} MiB"
    return None
