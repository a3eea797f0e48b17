"""No model is judged by people or cells it has trained on, and nothing is said to be by a model that it is not by."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.cells.lineage import (
    LineageError,
    refuse_other_cells,
    refuse_other_model,
    refuse_other_split,
    refuse_other_summary,
    refuse_other_weights,
)
from malaria_diffusion.cells.split import SplitParameters, assign_splits, training_cells_fingerprint


def table_of(splits):
    rows = [(f"P{k}", split) for k, split in enumerate(splits)]
    table = pd.DataFrame(rows, columns=["person", "split"])
    sha256 = table["person"].map(lambda person: hashlib.sha256(person.encode()).hexdigest())
    name = table["person"] + ".png"
    return table.assign(name=name, path="A/" + name, label="A", audit=False, sha256=sha256)


def model_of(table, cells_fingerprint="cells"):
    trained_on = table[table["split"] == "train"]
    return {
        "identity": "m",
        "best_epoch": 3,
        "training": {"guide_epochs": None},
        "cells_fingerprint": cells_fingerprint,
        "training_cells_fingerprint": training_cells_fingerprint(table),
        "training_people": list(trained_on["person"]),
        "training_cells": sorted(trained_on["sha256"].str[:16]),
    }


SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 2


def test_a_model_of_the_training_cells_is_accepted():
    refuse_other_cells(model_of(table_of(SPLITS)), "cells", table_of(SPLITS))


@pytest.mark.parametrize("row", [6, 9])
def test_one_held_out_cell_is_enough_to_refuse_whatever_it_is_called(row):
    splits = SPLITS.copy()
    splits[row] = "train"
    now = table_of(SPLITS)
    now["name"] = now["path"] = "other_" + now["name"]
    with pytest.raises(LineageError, match=r"among them 1 of the 4 that now validate or test: pack and split"):
        refuse_other_cells(model_of(table_of(splits)), "cells", now)


@pytest.mark.parametrize("change", ["pixels", "fewer", "audit"])
def test_members_that_are_none_are_enough_to_refuse(change):
    """No cell that is held out has leaked, but the model has not seen what it is said to have seen."""
    model = model_of(table_of(["train"] * 5 + ["val"] * 3 + ["test"] * 2) if change == "fewer" else table_of(SPLITS))
    now = table_of(SPLITS)
    if change == "audit":
        now.loc[0, "audit"] = True
    with pytest.raises(LineageError, match="trained on other cells than the training cells of cells and cell_table:"):
        refuse_other_cells(model, "other pixels" if change == "pixels" else "cells", now)


@pytest.mark.parametrize("strategy", ["person", "cell"])
def test_parameters_that_cells_were_not_split_by_are_refused(strategy):
    names = [f"C{person}P{person}_{label}_{k}.png" for person in range(40) for label in "AB" for k in range(5)]
    table = pd.DataFrame({"name": names, "label": [name.split("_")[1] for name in names], "path": names})
    used = SplitParameters(strategy=strategy)
    split = assign_splits(table, used)
    for other in ("person", "cell"):  # of which the cells tell
        refuse_other_split(split, strategy, used.model_copy(update={"strategy": other}))
    for change in ({"seed": 8}, {"test_fraction": 0.3}, {"audit_fraction": 0.1}, {"person_patterns": [r"^C(\d+)"]}):
        with pytest.raises(LineageError, match=r"data_processing\.split puts \d+ of 400 cells elsewhere"):
            refuse_other_split(split, strategy, used.model_copy(update=change))


@pytest.fixture
def synthetic():
    lineage = model_of(table_of(SPLITS))
    people = fingerprint_names(lineage["training_people"])
    table = pd.DataFrame({"model_identity": ["m", "m"], "training_people_hash": [people] * 2})
    return np.zeros((2, 3, 4, 4), np.uint8), table, lineage


def test_synthetic_cells_of_one_run_are_accepted(synthetic):
    refuse_other_model(*synthetic)


@pytest.mark.parametrize("change", [{"identity": "n"}, {"training_people": ["P0"]}])
def test_a_lineage_of_another_model_is_refused(synthetic, change):
    cells, table, lineage = synthetic
    with pytest.raises(LineageError, match="synthetic_lineage is of"):
        refuse_other_model(cells, table, lineage | change)


def test_another_number_of_cells_is_refused(synthetic):
    cells, table, lineage = synthetic
    with pytest.raises(LineageError, match="1 synthetic_cells, but 2 rows"):
        refuse_other_model(cells[:1], table, lineage)


def test_cells_by_another_training_or_epoch_are_refused():
    lineage = model_of(table_of(SPLITS))
    refuse_other_weights(lineage, dict(lineage))
    for other in ({"identity": "n"}, {"best_epoch": 2}, {"training": {"guide_epochs": 2}}):
        with pytest.raises(LineageError, match="sample first"):
            refuse_other_weights(lineage | other, lineage)


def test_a_summary_of_another_model_or_epoch_is_refused():
    model = {"identity": "n", "best_epoch": 3}
    refuse_other_summary(model, {"ddpm": model})
    refuse_other_summary(model, {"ddpm": {"identity": "n"}})  # older ones do not tell the epoch
    for other in ({"identity": "m", "best_epoch": 3}, {"identity": "n", "best_epoch": 2}):
        with pytest.raises(LineageError, match="validate again"):
            refuse_other_summary(model, {"ddpm": other})
