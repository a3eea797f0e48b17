"""Where images come from: a zip archive or a folder of class folders.

The class of an image is the name of the folder it lies in, however deep that folder is. Nothing is ever
extracted to disk: images are read as bytes, one at a time.
"""

from __future__ import annotations

import os
import stat
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.errors import Remedy

IGNORED_NAMES = {"thumbs.db", "desktop.ini"}
MAX_FILE_BYTES = 64 * 2**20
LINK_OUTSIDE = "a link that points outside the folder: data_processing.packing.follow_links=true reads such links"


@dataclass(frozen=True)
class Entry:
    """One file of a source.

    Attributes:
        path: Path inside the source, with forward slashes.
        refused: Why it must not or cannot be read, or None.
        stored: What its source reads it by.
    """

    path: str
    refused: str | None = None
    stored: Any = field(default=None, compare=False, repr=False)

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

    def entries(self, follow_links: bool = False) -> list[Entry]:
        """All files sorted by path, without what operating systems leave behind and texts beside the class folders.

        Args:
            follow_links: Whether links that lead out of the source may be read.
        """
        found = self._scan(follow_links)
        kept = [entry for entry in found if not _is_litter(entry.path) and (entry.label or entry.is_image)]
        return sorted(kept, key=lambda entry: entry.path)

    @abstractmethod
    def folders(self, follow_links: bool = False) -> dict[str, str | None]:
        """Paths of all folders, also of those without a file, and why they must not or cannot be read, or None."""

    @abstractmethod
    def _scan(self, follow_links: bool) -> Iterator[Entry]: ...

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
                f"{location}: not a readable zip archive ({error}); expected a zip of class folders, give another",
                Remedy.IMAGES,
            ) from error

    def _scan(self, follow_links: bool) -> Iterator[Entry]:
        for info in self._zip.infolist():
            path = _posix(info)
            if not path.endswith("/"):
                yield Entry(path, _zip_refusal(info), info)

    def folders(self, follow_links: bool = False) -> dict[str, str | None]:
        """Folders with an entry of their own, and those that files lie in."""
        names = [_posix(info) for info in self._zip.infolist()]
        own = {name.rstrip("/") for name in names if name.endswith("/")}
        found = own | {str(PurePosixPath(name).parent) for name in names}
        return {folder: None for folder in found if _is_class_like(folder)}

    def read(self, entry: Entry) -> bytes:
        """The bytes of one entry, its checksum verified by zipfile."""
        return self._zip.read(entry.stored)


class FolderSource(ImageSource):
    """A folder on disk. Links are followed, if they are allowed, but never round in a circle."""

    def _scan(self, follow_links: bool) -> Iterator[Entry]:
        return (entry for entry, is_folder in self._walk(follow_links) if not is_folder)

    def folders(self, follow_links: bool = False) -> dict[str, str | None]:
        """All folders below the given one."""
        return {entry.path: entry.refused for entry, is_folder in self._walk(follow_links) if is_folder}

    def _walk(self, follow_links: bool) -> Iterator[tuple[Entry, bool]]:
        """Everything below the folder, and whether it is a folder."""
        root = self.location.resolve()
        waiting: list[tuple[Entry, tuple[Path, ...]]] = [(Entry("", stored=self.location), (root,))]
        while waiting:
            folder, places = waiting.pop()
            try:
                children = list(os.scandir(folder.stored))
            except OSError as error:
                if not folder.path:
                    raise CellsError(
                        f"{self.location}: cannot be read ({error.strerror}); give yourself access"
                    ) from error
                yield Entry(folder.path, _unreadable(error)), True
                continue
            if folder.path:
                yield folder, True
            for child in children:
                path = (PurePosixPath(folder.path) / _text(child.name)).as_posix()
                if _is_litter(path):
                    continue
                is_folder, refused = _look(child, root, follow_links)
                place = Path(child.path).resolve() if is_folder else root
                if is_folder and refused is None and place in places:
                    refused = "a link to a folder that it lies in"
                if is_folder and refused is None:
                    waiting.append((Entry(path, stored=child.path), (*places, place)))
                else:
                    yield Entry(path, refused, child.path), is_folder

    def read(self, entry: Entry) -> bytes:
        """The bytes of one file."""
        return Path(entry.stored).read_bytes()


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
        f"{location}: no such file or folder; expected a zip or a folder of class folders, give one",
        Remedy.IMAGES,
    )


def _is_litter(path: str) -> bool:
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    return hidden or "__MACOSX" in parts or PurePosixPath(path).name.lower() in IGNORED_NAMES


def _is_class_like(folder: str) -> bool:
    return folder not in {"", "."} and not _is_litter(folder)


def _look(child: os.DirEntry[str], root: Path, follow_links: bool) -> tuple[bool, str | None]:
    """Whether it is a folder, itself or at the end of a link, and why it must not or cannot be read."""
    try:
        if child.is_symlink() and not follow_links and not Path(child.path).resolve(strict=True).is_relative_to(root):
            return child.is_dir(), LINK_OUTSIDE
        status = child.stat()
    except FileNotFoundError:
        return False, "a link to nothing"
    except (OSError, RuntimeError) as error:  # the latter of links in a circle
        return child.is_dir(follow_symlinks=False), _unreadable(error)
    if stat.S_ISDIR(status.st_mode):
        return True, None
    if not stat.S_ISREG(status.st_mode):
        return False, "neither a file nor a folder"
    return False, _too_large(status.st_size)


def _text(name: str) -> str:
    """A file's name as it can be written: one that is not in UTF-8 is taken for Latin-1."""
    stored = os.fsencode(name)
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored.decode("latin-1")


def _posix(info: zipfile.ZipInfo) -> str:
    """The entry's path; Windows has written archives with backslashes, against the format."""
    return info.filename.replace("\\", "/")


def _unreadable(error: Exception) -> str:
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _too_large(size: int) -> str | None:
    return f"file larger than {MAX_FILE_BYTES >> 20} MiB" if size > MAX_FILE_BYTES else None


def _zip_refusal(info: zipfile.ZipInfo) -> str | None:
    path = PurePosixPath(_posix(info))
    if not path.parts:
        return "no file name"
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return "path points outside the archive"
    if info.flag_bits & 0x1:
        return "encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "symbolic link"
    return _too_large(info.file_size)
