"""Synthetic images leave the project as what they are, and nothing of others is overwritten."""

import json
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from malaria_diffusion.cells.archive import export as module
from malaria_diffusion.cells.archive.export import check_target, publish
from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.packing import PackingParameters, pack_cells
from malaria_diffusion.cells.sources import open_source

KINDS = pytest.mark.parametrize("name", ["images.zip", "images"])


def some_images(seed: int = 3, **settings: object) -> Cells:
    cells = np.random.default_rng(seed).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    table = pd.DataFrame(
        {
            "index": np.arange(5),
            "label": ["Größe", "Größe", "Uninfected", "Uninfected", "Uninfected"],
            "seed": seed,
            "solver": "ddim",
            "evaluations": 15,
            "guidance": 1.5,
            "variance": "beta",
            "clipping": "static",
            "model_identity": "abc",
            "cells_fingerprint": "def",
            "training_people_hash": "012",
        }
    ).assign(**settings)
    lineage = {
        "identity": "abc",
        "cells_fingerprint": "def",
        "training_people_hash": "012",
        "training_people": ["Anna", "Bert"],
        "training_cells": ["1", "2", "3"],
        "class_names": ["Größe", "Uninfected"],
        "phantom": True,
    }
    return Cells.of_model(cells, table, lineage)


def read(path) -> dict[str, bytes]:
    if path.is_dir():
        return {found.relative_to(path).as_posix(): found.read_bytes() for found in path.rglob("*") if found.is_file()}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@KINDS
def test_what_is_published_is_read_back_as_raw_cells(tmp_path, name):
    images = some_images()
    publish(images, tmp_path / name)
    packed = pack_cells(open_source(tmp_path / name), PackingParameters(size=16), tmp_path / "cells.npy")
    assert packed.rejected.empty
    assert packed.cells.tolist() == images.pixels.tolist()
    assert packed.table["label"].tolist() == images.table["label"].tolist()
    assert packed.table["synthetic"].all()
    assert packed.table["phantom"].all()


def test_a_zip_and_a_folder_hold_the_same(tmp_path):
    for name in ("images.zip", "images"):
        publish(some_images(), tmp_path / name)
    assert read(tmp_path / "images.zip") == read(tmp_path / "images")


def test_the_same_images_make_the_same_bytes_and_others_do_not(tmp_path):
    for name, seed in (("a.zip", 3), ("b.zip", 3), ("c.zip", 4)):
        publish(some_images(seed), tmp_path / name)
    first, again, other = ((tmp_path / name).read_bytes() for name in ("a.zip", "b.zip", "c.zip"))
    assert first == again != other


def test_every_file_says_that_it_is_synthetic_and_by_which_model(tmp_path):
    images = some_images()
    publish(images, tmp_path / "images")
    manifest = pd.read_csv(tmp_path / "images/manifest.csv", dtype=str)
    assert set(manifest["synthetic"]) == {"true"}
    for row in manifest.to_dict("records"):
        with Image.open(tmp_path / "images" / row["file"]) as image:
            text = image.text
        assert text["Source"] == "synthetic"
        assert text["Software"].startswith("malaria_diffusion ")
        assert text["Disclaimer"] == "not for diagnosis"
        for name in ("label", "index", "seed", "solver", "evaluations", "guidance", "model_identity"):
            assert text[name] == row[name]
    assert manifest["file"].tolist()[2] == "Uninfected/000002.png"
    card = DatasetCard.load(tmp_path / "images/README.md")
    for words in ("synthetic", "phantom cells", "abc", "Seed 3", "ddim", "Not for diagnosis", "2 Größe"):
        assert words in card.text
    assert card.data.size_categories == "n<1K"
    everything = b"".join(read(tmp_path / "images").values())
    assert b"Anna" not in everything  # nobody who was trained on is named


def test_the_command_for_the_same_images_is_stated(tmp_path):
    publish(some_images(solver="ancestral", evaluations=1000), tmp_path / "images")
    command = json.loads((tmp_path / "images/manifest.json").read_text())["command"]
    for words in (
        "count.Größe=2",
        "count.Uninfected=3",
        "seed=3",
        "solver=ancestral",
        "evaluations=null",
        "guidance=1.5",
    ):
        assert f"diffusion.sampling.{words}" in command
    assert command in (tmp_path / "images/README.md").read_text()


@KINDS
def test_memory_does_not_hold_all_images(tmp_path, name):
    few = some_images()
    cells = np.random.default_rng(0).integers(0, 256, (800, 3, 64, 64), dtype=np.uint8)
    table = pd.concat([few.table] * 160, ignore_index=True).assign(index=range(800))
    tracemalloc.start()
    publish(Cells.of_model(cells, table, few.lineage), tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(content) for content in read(tmp_path / name).values()) > 9e6
    assert peak < 4e6


@KINDS
def test_an_earlier_publication_is_replaced_and_survives_a_failure(tmp_path, name, monkeypatch):
    publish(some_images(3), tmp_path / name)
    first = read(tmp_path / name)
    with monkeypatch.context() as broken:
        broken.setattr(module, "_png", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish(some_images(4), tmp_path / name)
    assert read(tmp_path / name) == first
    publish(some_images(4), tmp_path / name)
    assert read(tmp_path / name) != first
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_not_ours_is_never_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/mine.jpg").write_bytes(b"mine")
    (tmp_path / "text").write_text("mine")
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "torn.zip").write_text("mine")
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        archive.writestr("A/mine.png", b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("photos", "text", "folder.zip", "torn.zip", "cells.zip"):
        with pytest.raises(CellsError, match="give another place"):
            publish(some_images(), tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty")
    check_target(tmp_path / "new.zip")
