"""Fingerprints: equal for equal content, different for anything else."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.cells import fingerprint
from malaria_diffusion.cells.fingerprint import DIGITS, fingerprint_cells, fingerprint_json, fingerprint_names

COUNT = 12


@pytest.fixture
def cells() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 3, 8, 8), dtype=np.uint8)


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"name": [f"{k}.png" for k in range(COUNT)], "label": ["A", "B"] * (COUNT // 2)})


@pytest.mark.parametrize("row", [0, 5, COUNT - 1])
def test_one_pixel_changes_it(cells, table, row):
    before = fingerprint_cells(cells, table)
    cells[row, 2, 7, 7] ^= 1
    assert fingerprint_cells(cells, table) != before


@pytest.mark.parametrize("column", ["name", "label"])
def test_one_name_or_label_changes_it(cells, table, column):
    before = fingerprint_cells(cells, table)
    table.loc[COUNT - 1, column] = "other"
    assert fingerprint_cells(cells, table) != before


def test_order_changes_it(cells, table):
    backwards = table.iloc[::-1].reset_index(drop=True)
    prints = {fingerprint_cells(c, t) for c in (cells, cells[::-1]) for t in (table, backwards)}
    assert len(prints) == 4


def test_shape_changes_it(cells, table):
    assert fingerprint_cells(cells.reshape(COUNT, 3, 4, 16), table) != fingerprint_cells(cells, table)


@pytest.mark.parametrize("rows_at_once", [1, 5, 12, 4096])
def test_storage_does_not_change_it(cells, table, tmp_path, monkeypatch, rows_at_once):
    expected = fingerprint_cells(cells, table)
    assert len(expected) == DIGITS
    np.save(tmp_path / "cells.npy", cells)
    mapped = np.load(tmp_path / "cells.npy", mmap_mode="r")
    strided = np.repeat(cells, 2, axis=0)[::2]
    assert not strided.flags.c_contiguous
    monkeypatch.setattr(fingerprint, "ROWS_AT_ONCE", rows_at_once)
    assert [fingerprint_cells(each, table) for each in (cells, mapped, strided)] == [expected] * 3


def test_other_columns_and_the_index_do_not_change_it(cells, table):
    other = table.assign(split="train").set_index(np.arange(COUNT) + 100)
    assert fingerprint_cells(cells, other) == fingerprint_cells(cells, table)


def test_lengths_that_differ_name_the_command(cells, table):
    with pytest.raises(ValueError, match=r"12 images but cell_table 11 rows.*pack and split again"):
        fingerprint_cells(cells, table.iloc[1:])


def test_names_have_no_order():
    names = ["b.png", "a.png", "c.png"]
    assert fingerprint_names(names) == fingerprint_names(sorted(names)) == fingerprint_names(iter(names + names))
    assert fingerprint_names(names) != fingerprint_names(names[:2])
    assert fingerprint_names(["ab", "c"]) != fingerprint_names(["a", "bc"])


def test_json_has_no_order_of_keys():
    assert fingerprint_json({"a": 1, "b": [1, 2]}) == fingerprint_json({"b": [1, 2], "a": 1})
    assert fingerprint_json({"a": 1, "b": [1, 2]}) != fingerprint_json({"a": 1, "b": [2, 1]})
