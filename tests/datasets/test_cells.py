"""Images, table and facts of different runs are told from those of one, whichever files a kill has left."""

import json

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_cells, fingerprint_names, fingerprint_table
from malaria_diffusion.datasets.cells import PRINTS, PackedCells, SyntheticCells

LINEAGE = {"identity": "m", "class_names": ["A"], "training_people": ["P"], "training": {}}


def images(seed):
    return np.random.default_rng(seed).integers(0, 256, (4, 3, 2, 2), dtype=np.uint8)


def packed(folder, pixels=0, split="val"):
    table = pd.DataFrame({"name": list("abcd"), "label": "A", "split": ["train"] * 3 + [split], "audit": False})
    table["smear"] = ["", None, "s", "t"]
    of = {"fingerprint": fingerprint_cells(images(pixels), table), "table_fingerprint": fingerprint_table(table)}
    entry = PackedCells(filepath=str(folder / "cells.npy"))
    entry.save(Cells(images(pixels), table, {"classes": ["A"]} | of))
    return entry


def synthetic(folder, pixels=0, guidance=1.0):
    table = pd.DataFrame({"index": range(4), "label": "A", "guidance": guidance, "model_identity": "m"})
    table["training_people_hash"] = fingerprint_names(["P"])
    entry = SyntheticCells(filepath=str(folder / "synthetic_cells.npy"))
    entry.save(Cells.of_model(images(pixels), table, LINEAGE))
    return entry


@pytest.mark.parametrize(
    ("make", "change", "renamed"),
    [
        (packed, {"pixels": 1}, 1),
        (packed, {"pixels": 1}, 2),
        (packed, {"split": "test"}, 1),
        (synthetic, {"pixels": 1}, 1),
        (synthetic, {"pixels": 1}, 2),
        (synthetic, {"guidance": 1.5}, 1),
    ],
)
def test_a_kill_between_the_renames_is_noticed(tmp_path, make, change, renamed):
    entry, later = make(tmp_path / "one"), make(tmp_path / "two", **change)
    assert (entry.load().state, later.load().state) == (entry.state(), later.state())
    assert entry.state() != later.state()
    for target, source in list(zip(entry.paths, later.paths, strict=True))[-renamed:]:  # the facts are the first
        source.replace(target)
    with pytest.raises(DatasetError, match=r"they are from different runs; (pack and split|sample) again"):
        entry.load()


@pytest.mark.parametrize("make", [packed, synthetic])
def test_what_an_earlier_version_saved_is_loaded(tmp_path, make):
    entry = make(tmp_path)
    state, facts = entry.state(), entry.facts()
    for name in PRINTS if make is synthetic else PRINTS[1:]:
        del facts[name]
    entry.paths[2].write_text(json.dumps(facts))
    assert entry.load().state == entry.state() == state


def test_fingerprints_are_no_part_of_the_lineage(tmp_path):
    assert synthetic(tmp_path).load().lineage == LINEAGE


def test_nothing_is_told_of_cells_that_are_not_there(tmp_path):
    assert PackedCells(filepath=str(tmp_path / "cells.npy")).state() is None
