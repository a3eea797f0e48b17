"""Image sources: a zip and a folder are the same thing, and neither can reach outside itself."""

import os
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest

from malaria_diffusion.cells import sources as archive
from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.sources import LINK_OUTSIDE, Entry, FolderSource, ZipSource, open_source

FILES = {
    "cell_images/Uninfected/a.png": b"a",
    "cell_images/Parasitized/b.png": b"b",
    "cell_images/cell_images/Parasitized/deep.png": b"deep",
    "cell_images/readme.txt": b"text",
}
LITTER = [
    "cell_images/Parasitized/Thumbs.db",
    "cell_images/Parasitized/THUMBS.DB",
    "cell_images/Parasitized/desktop.ini",
    "cell_images/Parasitized/.DS_Store",
    "cell_images/Parasitized/.ipynb_checkpoints/a-checkpoint.png",
    "__MACOSX/cell_images/Parasitized/._a.png",
    "__MACOSX/cell_images/Parasitized/a.png",
]
OUTSIDE = "path points outside the archive"


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write(kind: str, folder: Path, files: dict[str, bytes]) -> Path:
    return write_zip(folder / "cells.zip", files) if kind == "zip" else write_folder(folder / "cells", files)


def central_directory(content: bytes) -> int:
    return content.index(b"PK\x01\x02")


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_entries_are_all_files_sorted_and_readable(tmp_path, kind):
    source = open_source(write(kind, tmp_path, FILES))
    assert [entry.path for entry in source.entries()] == sorted(FILES)
    assert {entry.path: source.read(entry) for entry in source.entries()} == FILES
    assert not any(entry.refused for entry in source.entries())


def test_zip_and_folder_give_the_same_entries(tmp_path):
    as_zip, as_folder = (open_source(write(kind, tmp_path, FILES)) for kind in ("zip", "folder"))
    assert isinstance(as_zip, ZipSource)
    assert isinstance(as_folder, FolderSource)
    assert as_zip.entries() == as_folder.entries()


def test_folders_are_no_entries(tmp_path):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as file:
        file.mkdir("Parasitized")
        file.writestr("Parasitized/a.png", b"a")
    assert open_source(tmp_path / "cells.zip").entries() == [Entry("Parasitized/a.png")]


@pytest.mark.parametrize(
    ("path", "label", "name"),
    [
        ("Parasitized/a.png", "Parasitized", "a.png"),
        ("cell_images/Parasitized/a.png", "Parasitized", "a.png"),
        ("cell_images/cell_images/Uninfected/b.png", "Uninfected", "b.png"),
        ("lonely.png", "", "lonely.png"),
    ],
)
def test_the_class_is_the_innermost_folder(path, label, name):
    assert (Entry(path).label, Entry(path).name) == (label, name)


@pytest.mark.parametrize("kind", ["zip", "folder"])
@pytest.mark.parametrize("litter", LITTER)
def test_what_operating_systems_leave_behind_is_ignored(tmp_path, kind, litter):
    source = open_source(write(kind, tmp_path, FILES | {litter: b"litter"}))
    assert [entry.path for entry in source.entries()] == sorted(FILES)


@pytest.mark.parametrize(
    "path",
    ["../a.png", "A/../../a.png", "/etc/a.png", "A\\..\\..\\a.png", "C:\\a.png", "C:/a.png"],
)
def test_zip_paths_that_leave_the_archive_are_refused(tmp_path, path):
    source = open_source(write_zip(tmp_path / "cells.zip", {path: b"evil", "A/good.png": b"good"}))
    refusals = {entry.path: entry.refused for entry in source.entries()}
    assert refusals == {path.replace("\\", "/"): OUTSIDE, "A/good.png": None}


def test_backslashes_of_windows_divide_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as file:
        for name in ("cells\\A\\", "cells\\A\\1.png", "cells\\B\\2.png"):
            file.writestr(zipfile.ZipInfo(name), name.encode())
    source = open_source(tmp_path / "cells.zip")
    assert [(entry.path, entry.label) for entry in source.entries()] == [("cells/A/1.png", "A"), ("cells/B/2.png", "B")]
    assert source.read(source.entries()[1]) == b"cells\\B\\2.png"
    assert set(source.folders()) == {"cells", "cells/A", "cells/B"}


@pytest.mark.parametrize("name", [b".", b"\0", b"\\"])
def test_a_zip_entry_without_a_proper_name_does_not_stop_the_others(tmp_path, name):
    path = write_zip(tmp_path / "cells.zip", {"Q": b"odd", "A/good.png": b"good"})
    path.write_bytes(path.read_bytes().replace(b"Q", name))
    source = open_source(path)
    assert [entry.path for entry in source.entries() if entry.refused is None] == ["A/good.png"]


def test_encrypted_zip_entries_are_refused(tmp_path):
    path = write_zip(tmp_path / "cells.zip", {"A/secret.png": b"?", "A/open.png": b"!"})
    content = bytearray(path.read_bytes())
    content[central_directory(content) + 8] |= 1
    path.write_bytes(content)
    refusals = {entry.path: entry.refused for entry in open_source(path).entries()}
    assert refusals == {"A/secret.png": "encrypted", "A/open.png": None}


def test_symbolic_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("A/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    assert open_source(tmp_path / "cells.zip").entries() == [Entry("A/link.png", "symbolic link")]


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_oversized_files_are_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 2**20)
    source = open_source(write(kind, tmp_path, {"A/big.png": bytes(2**20 + 1), "A/fits.png": bytes(2**20)}))
    assert source.entries() == [Entry("A/big.png", "file larger than 1 MiB"), Entry("A/fits.png")]


def test_links_out_of_a_folder_are_refused(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    cells = write_folder(tmp_path / "cells", {"A/real.png": b"real"})
    (cells / "A" / "inside.png").symlink_to(cells / "A" / "real.png")
    (cells / "A" / "outside.png").symlink_to(secret)
    (cells / "A" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (cells / "B").symlink_to(tmp_path, target_is_directory=True)
    refusals = {entry.path: entry.refused for entry in open_source(cells).entries()}
    assert refusals == {
        "A/broken.png": "a link to nothing",
        "A/inside.png": None,
        "A/outside.png": LINK_OUTSIDE,
        "A/real.png": None,
    }
    assert open_source(cells).folders() == {"A": None, "B": LINK_OUTSIDE}


def test_links_inside_a_folder_are_read(tmp_path):
    cells = write_folder(tmp_path / "cells", {"store/a/1.png": b"one", "A/2.png": b"two"})
    (cells / "B").symlink_to(cells / "store" / "a", target_is_directory=True)
    source = open_source(cells)
    assert {entry.path: source.read(entry) for entry in source.entries()} == {
        "A/2.png": b"two",
        "B/1.png": b"one",
        "store/a/1.png": b"one",
    }


def test_links_out_of_a_folder_are_read_where_that_is_allowed(tmp_path):
    write_folder(tmp_path / "store", {"1.png": b"one", "more/2.png": b"two"})
    cells = write_folder(tmp_path / "cells", {"A/real.png": b"real"})
    (cells / "A" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    (cells / "B").symlink_to(tmp_path / "store" / "more", target_is_directory=True)
    source = open_source(cells)
    assert {entry.path: source.read(entry) for entry in source.entries(follow_links=True)} == {
        "A/1.png": b"one",
        "A/real.png": b"real",
        "B/2.png": b"two",
    }
    assert source.folders(follow_links=True) == {"A": None, "B": None}


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_in_a_circle_are_no_endless_walk(tmp_path, follow_links):
    cells = write_folder(tmp_path / "cells", {"A/real.png": b"real"})
    (cells / "A" / "around").symlink_to(cells, target_is_directory=True)
    (cells / "A" / "itself.png").symlink_to(cells / "A" / "itself.png")
    source = open_source(cells)
    entries = source.entries(follow_links)
    assert [entry.path for entry in entries] == ["A/itself.png", "A/real.png"]
    assert entries[0].refused.startswith("cannot be read: ")
    assert source.folders(follow_links) == {"A": None, "A/around": "a link to a folder that it lies in"}


def test_a_name_in_latin_1_is_read_and_can_be_written(tmp_path):
    files = {"Zoën/Bär, 1.png": b"one", "Zoën/Notiz ü.txt": b"text", "A/2.png": b"two"}
    for name, content in files.items():
        place = tmp_path / "cells" / os.fsdecode(name.encode("latin-1"))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    source = open_source(tmp_path / "cells")
    assert {entry.path: source.read(entry) for entry in source.entries()} == files
    assert set(source.folders()) == {"A", "Zoën"}


def test_equal_names_in_two_encodings_are_two_files(tmp_path):
    (tmp_path / "A").mkdir()
    for name in ("ü.png".encode(), "ü.png".encode("latin-1")):
        (tmp_path / "A" / os.fsdecode(name)).write_bytes(name)
    source = open_source(tmp_path)
    assert {source.read(entry) for entry in source.entries()} == {"ü.png".encode(), "ü.png".encode("latin-1")}


@pytest.fixture
def closed():
    """A folder of class folders whose class B nobody may read, in a place that another user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        cells = write_folder(Path(folder), {"A/1.png": b"one", "B/2.png": b"two"})
        cells.chmod(0o755)
        (cells / "B").chmod(0)
        superuser = os.geteuid() == 0
        if superuser:  # whom permissions do not hold back
            os.seteuid(65534)
        yield cells
        if superuser:
            os.seteuid(0)
        (cells / "B").chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs permissions as on Unix")
def test_a_folder_that_cannot_be_read_is_not_called_empty(closed):
    source = open_source(closed)
    assert [entry.path for entry in source.entries()] == ["A/1.png"]
    assert source.folders() == {"A": None, "B": "cannot be read: Permission denied"}
    with pytest.raises(CellsError, match=r"B: cannot be read \(Permission denied\)"):
        open_source(closed / "B").entries()


def test_a_folder_may_itself_be_a_link(tmp_path):
    write_folder(tmp_path / "cells", {"A/real.png": b"real"})
    (tmp_path / "link").symlink_to(tmp_path / "cells", target_is_directory=True)
    assert open_source(tmp_path / "link").entries() == [Entry("A/real.png")]


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(CellsError, match=r"nothing\.zip: no such file or folder.*give one"):
        open_source(tmp_path / "nothing.zip")


def not_a_zip(content: bytes) -> bytes:
    return b"just text"


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def from_the_future(content: bytes) -> bytes:
    at = central_directory(content) + 6
    return content[:at] + b"\x63" + content[at + 1 :]


def with_a_mangled_name(content: bytes) -> bytes:
    return content.replace("é".encode(), b"\xff\xfe")


@pytest.mark.parametrize("damage", [not_a_zip, truncated, from_the_future, with_a_mangled_name])
def test_a_file_that_is_no_readable_zip_is_named(tmp_path, damage):
    path = write_zip(tmp_path / "cells.zip", {"A/é.png": b"a", "B/b.png": b"b"})
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(CellsError, match=r"cells\.zip: not a readable zip archive.*give another"):
        open_source(path)
