"""Finished files and folders in an object store, by fsspec, which knows S3 and many others.

A store cannot rename a folder. So every version goes into a folder named by its content, and the small file
`finished.json`, written last and in one piece, says which version counts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import fsspec

from malaria_diffusion.errors import UserError
from malaria_diffusion.files import locked, remove, replace, sha256_of

POINTER = "finished.json"
DIGITS = 16


class Store:
    """One artefact at `url`, and its local copies in `cache`.

    Args:
        url: Any URL fsspec understands.
        cache: A folder on this machine.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url
        self._name = url.rstrip("/").rsplit("/", 1)[-1]
        self._cache = cache / hashlib.sha256(url.encode()).hexdigest()[:DIGITS]
        self._files, self._place = fsspec.core.url_to_fs(url.rstrip("/"), use_listings_cache=False)

    def exists(self) -> bool:
        """Whether a version has been finished."""
        return bool(self._files.exists(f"{self._place}/{POINTER}"))

    def save(self, data: Path) -> None:
        """Upload a copy of the file or folder `data`; until all of it is there, the earlier version counts."""
        local = self._keep(data)
        version = local.parent.name
        remote = f"{self._place}/{version}"
        for path in _paths(local):
            self._files.put_file(str(path), f"{remote}/{path.relative_to(local.parent).as_posix()}")
        self._files.pipe_file(f"{self._place}/{POINTER}", json.dumps({"version": version}).encode())
        for other in self._files.ls(self._place, detail=False, refresh=True):
            if other.rstrip("/").rsplit("/", 1)[-1] not in {version, POINTER}:
                self._files.rm(other, recursive=True)

    def load(self) -> Path:
        """A local copy of the finished version, downloaded once.

        Raises:
            FileNotFoundError: no version has been finished.
            UserError: what was downloaded is not what was uploaded.
        """
        version: str = json.loads(self._files.cat_file(f"{self._place}/{POINTER}"))["version"]
        local = self._cache / version / self._name
        if not local.exists():
            with locked(self._cache):
                if not local.exists():  # by another command meanwhile
                    self._download(version)
        return local

    def _download(self, version: str) -> None:
        beside = self._cache / "download"
        remove(beside)
        for remote in self._files.find(f"{self._place}/{version}"):
            path = beside / remote.split(f"/{version}/", 1)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(remote, str(path))
        if digest_of(beside / self._name) != version:
            remove(beside)
            raise UserError(
                f"{self.url}: version {version} is damaged or unfinished; make it again, or upload a good copy"
            )
        replace(beside, self._cache / version)

    def _keep(self, data: Path) -> Path:
        """Copy `data` to where `load` will find it."""
        local = self._cache / digest_of(data) / self._name
        with locked(self._cache):
            if not local.exists():
                beside = self._cache / "upload"
                remove(beside)
                beside.mkdir(parents=True)
                copy = beside / self._name
                shutil.copytree(data, copy) if data.is_dir() else shutil.copy2(data, copy)
                replace(beside, local.parent)
        return local


def check_package(url: str) -> None:
    """Make sure that there is a package for this kind of store.

    Raises:
        UserError: it is not installed, or nobody knows such a store.
    """
    try:
        fsspec.get_filesystem_class(url.partition("://")[0])
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{url}: cannot be reached from here ({error}); for S3: pip install 'malaria_diffusion[cloud]'"
        ) from error


def check_store(url: str) -> None:
    """Make sure, before any work, that results can be written below `url`.

    Raises:
        UserError: nothing can be written.
    """
    try:
        files, place = fsspec.core.url_to_fs(url.rstrip("/"))
        files.pipe_file(f"{place}/.writable", b"")
        files.rm_file(f"{place}/.writable")
    except Exception as error:  # every fsspec backend raises its own kinds
        raise UserError(
            f"{url}: nothing can be written there ({type(error).__name__}: {error}); check the address in globals.yml, "
            "and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL in the environment"
        ) from error


def _paths(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]


def digest_of(root: Path) -> str:
    """Of names and contents of all files; of a single file, of its content."""
    digest = hashlib.sha256()
    for path in _paths(root):
        digest.update(f"{path.relative_to(root).as_posix()}\n{sha256_of(path)}\n".encode())
    return digest.hexdigest()[:DIGITS]
