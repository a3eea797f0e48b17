"""A finished artefact is replaced whole or not at all."""

import base64
import io
import shutil

import numpy as np
import pytest
from kedro.io import DatasetError
from PIL import Image

from malaria_diffusion.datasets.finished import FinishedPath, MemoryMap


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    (made / "a.txt").write_text("new")
    return made


def test_folders_and_files_are_put_in_place(tmp_path, folder):
    for name, made in (("folder", folder), ("file.txt", folder / "a.txt")):
        dataset = FinishedPath(filepath=str(tmp_path / "place" / name))
        assert not dataset.exists()
        with pytest.raises(DatasetError):
            dataset.load()
        dataset.save(made)
        dataset.save(made)
        assert dataset.exists()
        assert dataset.load().name == name
    assert (tmp_path / "place" / "folder" / "a.txt").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["file.txt", "folder"]


def test_a_folder_loses_what_the_new_one_lacks(tmp_path, folder):
    dataset = FinishedPath(filepath=str(tmp_path / "place"))
    dataset.save(folder)
    (folder / "a.txt").rename(folder / "b.txt")
    dataset.save(folder)
    assert [path.name for path in dataset.load().iterdir()] == ["b.txt"]


def test_a_failed_save_leaves_the_earlier_artefact(tmp_path, folder, monkeypatch):
    dataset = FinishedPath(filepath=str(tmp_path / "place"))
    dataset.save(folder)

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(DatasetError, match="no space left"):
        dataset.save(folder)
    assert (dataset.load() / "a.txt").read_text() == "new"


def test_a_save_killed_between_its_renames_leaves_the_earlier_folder(tmp_path, folder):
    dataset = FinishedPath(filepath=str(tmp_path / "place"))
    folder.rename(tmp_path / ".place.replaced")
    assert dataset.exists()
    assert (dataset.load() / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_save_killed_after_its_renames_leaves_the_new_folder(tmp_path, folder):
    dataset = FinishedPath(filepath=str(tmp_path / "place"))
    dataset.save(folder)
    (tmp_path / ".place.replaced").mkdir()
    assert (dataset.load() / "a.txt").read_text() == "new"
    dataset.save(folder)
    assert not (tmp_path / ".place.replaced").exists()


def test_memory_maps_are_loaded_read_only(tmp_path):
    dataset = MemoryMap(filepath=str(tmp_path / "place" / "cells.npy"))
    for images in (np.arange(12).reshape(3, 4), np.zeros(2)):
        dataset.save(images)
        loaded = dataset.load()
        assert isinstance(loaded, np.memmap)
        assert loaded.tolist() == images.tolist()
    with pytest.raises(ValueError, match="read-only"):
        loaded[0] = 1


def test_images_preview_as_a_sheet(tmp_path):
    dataset = MemoryMap(filepath=str(tmp_path / "cells.npy"))
    cells = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((10, 3, 4, 4), np.uint8)
    cells[9, 1:] = 0
    for shape in (cells.shape, (2, 5, 3, 4, 4)):
        dataset.save(cells.reshape(shape))
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(dataset.preview(rows=2, columns=2)))))
        assert sheet.shape == (8, 8, 3)
        assert sheet[::4, ::4].tolist() == [[[0, 0, 0], [3, 3, 3]], [[6, 6, 6], [9, 0, 0]]]
