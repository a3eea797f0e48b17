"""No model is judged by people or cells it has trained on."""

import hashlib

import pandas as pd
import pytest

from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.evaluation.lineage import LeakError, refuse_leaks


def sha256(person):
    return hashlib.sha256(person.encode()).hexdigest()


@pytest.fixture
def cell_table():
    rows = [(f"P{k}", split) for k, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 2)]
    table = pd.DataFrame(rows, columns=["person", "split"])
    return table.assign(sha256=table["person"].map(sha256))


def model_of(people, cells=()):
    lineage = {"identity": "m", "training_people": people, "training_cells": [sha256(cell)[:16] for cell in cells]}
    table = pd.DataFrame({"model_identity": ["m"], "training_people_hash": [fingerprint_names(people)]})
    return table, lineage


@pytest.mark.parametrize("strategy", ["person", "cell"])
def test_a_model_of_the_training_split_is_accepted(cell_table, strategy):
    refuse_leaks(*model_of(["P0", "P5"], ["P0", "P5"]), cell_table, strategy)


@pytest.mark.parametrize("leak", ["P6", "P9"])
def test_one_held_out_person_is_enough_to_refuse(cell_table, leak):
    with pytest.raises(LeakError, match=rf"1 of the 4 people.*{leak}.*kedro run --pipeline diffusion"):
        refuse_leaks(*model_of(["P0", leak]), cell_table, "person")


@pytest.mark.parametrize("strategy", ["person", "cell"])
def test_a_held_out_cell_is_recognised_whatever_its_person_is_called(cell_table, strategy):
    with pytest.raises(LeakError, match="1 of the 4 cells"):
        refuse_leaks(*model_of(["somebody"], ["P0", "P9"]), cell_table, strategy)


def test_split_by_cell_shares_people(cell_table):
    refuse_leaks(*model_of(["P0", "P9"], ["P0"]), cell_table, "cell")


def test_a_lineage_of_another_model_is_refused(cell_table):
    table, _ = model_of(["P0"])
    _, lineage = model_of(["P1"])
    with pytest.raises(LeakError, match="synthetic_lineage"):
        refuse_leaks(table, lineage, cell_table, "person")
