"""A finished artefact in an object store is replaced whole or not at all, and downloaded once."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from kedro.io import DatasetError

from malaria_diffusion.datasets.finished import FinishedPath
from malaria_diffusion.datasets.store import check_package, check_store
from malaria_diffusion.errors import UserError

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}/models/ddpm"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    (made / "unet").mkdir(parents=True)
    (made / "lineage.json").write_text("first")
    (made / "unet/weights").write_text("weights")
    return made


@pytest.fixture
def here(url, tmp_path):
    return FinishedPath(filepath=url, cache={"path": str(tmp_path / "here")})


@pytest.fixture
def elsewhere(url, tmp_path):
    return FinishedPath(filepath=url, cache={"path": str(tmp_path / "elsewhere")})


def content(path):
    return {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}


def test_a_folder_arrives_elsewhere_under_its_name(here, elsewhere, folder):
    assert not elsewhere.exists()
    with pytest.raises(DatasetError, match="not there yet"):
        elsewhere.load()
    here.save(folder)
    assert elsewhere.exists()
    assert elsewhere.load().name == "ddpm"
    assert content(elsewhere.load()) == content(here.load()) == content(folder)


def test_a_file_keeps_its_name_and_suffix(url, tmp_path, folder):
    place = url.replace("ddpm", "classifier.pt")
    FinishedPath(filepath=place, cache={"path": str(tmp_path / "here")}).save(folder / "lineage.json")
    loaded = FinishedPath(filepath=place, cache={"path": str(tmp_path / "elsewhere")}).load()
    assert (loaded.name, loaded.read_text()) == ("classifier.pt", "first")


def test_a_new_version_is_found_and_the_old_one_deleted(url, here, elsewhere, folder):
    here.save(folder)
    first = elsewhere.load()
    (folder / "unet/weights").unlink()
    (folder / "lineage.json").write_text("second")
    here.save(folder)
    assert content(elsewhere.load()) == {"lineage.json": "second"}
    assert content(first)["lineage.json"] == "first"  # whoever still reads it can
    assert len(MEMORY.find(url)) == 2


@pytest.mark.parametrize("fatal", [1, 2, 3])  # the first file, the second, the pointer
def test_an_interrupted_upload_leaves_the_earlier_version(here, elsewhere, folder, monkeypatch, fatal):
    here.save(folder)
    before = content(folder)
    (folder / "lineage.json").write_text("second")
    calls = []

    def broken(method):
        def call(*args, **kwargs):
            calls.append(method)
            if len(calls) == fatal:
                raise OSError("connection lost")
            return method(*args, **kwargs)

        return call

    with monkeypatch.context() as breaks:
        for name in ("put_file", "pipe_file"):
            breaks.setattr(MEMORY, name, broken(getattr(MEMORY, name)))
        breaks.setattr(here._store, "_files", MEMORY)
        with pytest.raises(DatasetError, match="connection lost"):
            here.save(folder)
    assert content(elsewhere.load()) == before
    here.save(folder)
    assert content(elsewhere.load())["lineage.json"] == "second"


def test_what_is_unchanged_is_downloaded_once(here, elsewhere, folder, monkeypatch):
    here.save(folder)
    elsewhere.load()
    monkeypatch.setattr(type(MEMORY), "get_file", lambda *_: 1 / 0)
    assert content(elsewhere.load()) == content(folder)
    assert content(here.load()) == content(folder)  # what was made here is not downloaded at all


def test_two_that_download_at_once_do_not_disturb_each_other(here, elsewhere, folder, monkeypatch):
    """As two commands, whose locks are as much apart as those of two threads."""
    here.save(folder)
    get_file, calls = type(MEMORY).get_file, []

    def slow(*args):
        calls.append(args)
        time.sleep(0.3)
        get_file(*args)

    monkeypatch.setattr(type(MEMORY), "get_file", slow)
    with ThreadPoolExecutor(2) as pool:
        loaded = [pool.submit(elsewhere.load) for _ in range(2)]
    assert [content(each.result()) for each in loaded] == [content(folder)] * 2
    assert len(calls) == 2  # files, each of them once


def test_a_damaged_download_is_refused_and_not_kept(url, here, elsewhere, folder):
    here.save(folder)
    (weights,) = (path for path in MEMORY.find(url) if path.endswith("weights"))
    good = MEMORY.cat_file(weights)
    MEMORY.pipe_file(weights, b"torn")
    with pytest.raises(DatasetError, match="damaged or unfinished"):
        elsewhere.load()
    MEMORY.pipe_file(weights, good)
    assert content(elsewhere.load()) == content(folder)


def test_a_store_is_checked_before_any_work(url, monkeypatch):
    check_package(url)
    check_store(url)
    assert not MEMORY.exists(f"{url}/.writable")
    with pytest.raises(UserError, match=r"^nosuch://bucket: cannot be reached from here"):
        check_package("nosuch://bucket")
    monkeypatch.setattr(type(MEMORY), "pipe_file", lambda *_: 1 / 0)
    with pytest.raises(UserError, match=r"nothing can be written there \(ZeroDivisionError"):
        check_store(url)
