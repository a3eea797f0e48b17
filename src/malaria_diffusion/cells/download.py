"""Bring a remote archive or folder to this machine, once, checked and atomically."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
from tqdm.auto import tqdm

from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.sources import FolderSource
from malaria_diffusion.errors import Remedy
from malaria_diffusion.files import remove, replace, sha256_of

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Published:
    """What a publisher says of a file.

    Attributes:
        size: Bytes.
        sha256: Hexadecimal digest.
    """

    size: int
    sha256: str


def is_url(location: str) -> bool:
    """Whether `location` names something that fsspec must fetch."""
    return "://" in location


def fetch(url: str, folder: Path, published: Published | None = None) -> Path:
    """Return the local copy of `url`, downloading it into `folder` if no usable one, of the published size, is there.

    Args:
        url: Any URL fsspec understands, of a zip archive or (without the suffix .zip) a folder.
        folder: Where local copies are kept.
        published: Size and sha256 the copy must have; None if the publisher states none.

    Raises:
        CellsError: the download failed, or the copy is not the published file, or neither a zip archive nor a folder
            with images. Nothing is left behind under the final name.
    """
    parts = urlsplit(url)
    # the address is part of the name: two sources called cells.zip must not be taken for each other
    key = hashlib.sha256(url.encode()).hexdigest()[:8]
    name = Path(parts.path).name or parts.netloc
    target = folder / f"{Path(name).stem}-{key}{Path(name).suffix}"
    if published is not None and target.suffix != ".zip":
        raise CellsError(f"{url}: size and sha256 are published of a folder; they can be checked of a .zip only")
    if target.exists() and _is_usable(target) and (published is None or target.stat().st_size == published.size):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    remove(partial)
    try:
        if target.suffix == ".zip":
            _download_file(url, partial)
        else:
            filesystem, remote = fsspec.core.url_to_fs(url)
            filesystem.get(remote.rstrip("/") + "/", str(partial), recursive=True)
    except Exception as error:  # every fsspec backend raises its own kinds
        remove(partial)
        raise CellsError(
            f"{url}: could not be downloaded ({type(error).__name__}: {error}); fetch it by other means and "
            "give its path",
            Remedy.IMAGES,
        ) from error
    if published is not None:
        _check(url, partial, published)
    if not _is_usable(partial):
        found = f"a file that begins with {_beginning(partial)!r}" if partial.is_file() else "a folder without an image"
        remove(partial)
        raise CellsError(
            f"{url}: gave {found}, expected a zip archive or a folder of class folders; if it is the page of a server "
            "that wants you to sign in, fetch the images by other means and give their path",
            Remedy.IMAGES,
        )
    replace(partial, target)
    return target


def _is_usable(copy: Path) -> bool:
    """Whether it is a zip archive or a folder with an image, which a page about signing in is not."""
    if copy.is_dir():
        return any(entry.is_image for entry in FolderSource(copy).entries())
    return zipfile.is_zipfile(copy)


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(40).decode(errors="replace")


def _download_file(url: str, target: Path) -> None:
    with fsspec.open(url, "rb") as remote, target.open("wb") as local:
        size = getattr(remote, "size", None)
        with tqdm(total=size, unit="B", unit_scale=True, desc="downloading cells") as bar:
            while chunk := remote.read(CHUNK_BYTES):
                local.write(chunk)
                bar.update(len(chunk))


def _check(url: str, path: Path, published: Published) -> None:
    size, sha256 = path.stat().st_size, sha256_of(path)
    if (size, sha256) != (published.size, published.sha256):
        remove(path)
        raise CellsError(
            f"{url}: the download is not the published file: found {size:,} bytes with sha256 {sha256}, expected "
            f"{published.size:,} bytes with {published.sha256}; it was deleted. Try again, or, if the publisher has "
            "changed the file, correct `published` of raw_cells in the catalog"
        )
