"""A training is named by the cells it is of."""

import pandas as pd

from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.cells.split import training_cells_fingerprint


def table(splits: dict[str, str]) -> pd.DataFrame:
    """Split of each path, none of them audited."""
    rows = pd.DataFrame(splits.items(), columns=["path", "split"]).assign(audit=False)
    rows[["label", "name"]] = rows["path"].str.split("/", expand=True).iloc[:, -2:]
    return rows


def test_it_is_of_labels_and_names():
    splits = {"cells/A/1.png": "train", "cells/A/2.png": "test", "cells/B/1.png": "train"}
    assert training_cells_fingerprint(table(splits)) == fingerprint_names(["A/1.png", "B/1.png"])


def test_equal_names_in_two_folders_are_told_apart():
    one = training_cells_fingerprint(table({"x/A/1.png": "train", "y/A/1.png": "test"}))
    other = training_cells_fingerprint(table({"x/A/1.png": "test", "y/A/1.png": "train"}))
    assert one != other
