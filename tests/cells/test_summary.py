"""The summary: every count adds up to the table it describes."""

import json

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.split import SplitParameters, assign_splits, training_rows
from malaria_diffusion.cells.summary import counted, repeated_folders, summarise

PARAMETERS = SplitParameters(
    strategy="person",
    person_patterns=["^(.+?)_"],
    smear_pattern=None,
    val_fraction=0.15,
    test_fraction=0.2,
    audit_fraction=0.05,
    seed=0,
)
PACKING = PackingParameters(size=32)
NOTHING = pd.DataFrame({"path": [], "reason": []}, dtype=object)


@pytest.fixture(params=["person", "cell"])
def table(request) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"P{person}_{k}.png", "Parasitized" if person % 3 and k % 4 == 0 else "Uninfected")
        for person in range(90)
        for k in range(rng.integers(5, 15))
    ]
    table = pd.DataFrame(rows, columns=["name", "label"])
    table[["width", "height"]] = rng.integers(80, 180, (len(table), 2))
    table[["phantom", "synthetic"]] = False
    table["path"] = "cells/" + table["label"] + "/" + table["name"]
    return assign_splits(table, PARAMETERS.model_copy(update={"strategy": request.param}))


def test_counts_add_up_to_the_table(table):
    summary = summarise(table, NOTHING, PACKING, PARAMETERS)
    splits = summary["splits"]
    assert list(splits) == ["train", "val", "test"]
    assert sum(part["cells"] for part in splits.values()) == summary["cells"] == len(table)
    for name, part in splits.items():
        rows = table[table["split"] == name]
        assert part["cells"] == len(rows) == sum(part["cells_by_class"].values()) > 0
        assert part["people"] == rows["person"].nunique() == sum(part["people_by_classes"].values())
        assert part["cells_by_class"] == {label: (rows["label"] == label).sum() for label in summary["classes"]}
    assert summary["trained_on"] + summary["audit"] == splits["train"]["cells"]
    assert summary["trained_on"] == training_rows(table).sum()
    assert summary["people"] == 90


def test_people_of_all_splits_are_all_people_when_split_by_person(table):
    people = sum(part["people"] for part in summarise(table, NOTHING, PACKING, PARAMETERS)["splits"].values())
    by_person = (table.groupby("person")["split"].nunique() == 1).all()
    assert people == 90 if by_person else people > 90


def test_strata_are_people_with_and_without_parasites(table):
    splits = summarise(table, NOTHING, PACKING, PARAMETERS)["splits"].values()
    by_classes = pd.DataFrame([part["people_by_classes"] for part in splits])
    assert set(by_classes) == {"Parasitized+Uninfected", "Uninfected"}
    infected = table[table["label"] == "Parasitized"].groupby("split")["person"].nunique()
    assert by_classes["Parasitized+Uninfected"].sum() >= infected.sum() >= 60


def test_sizes_are_medians(table):
    summary = summarise(table, NOTHING, PACKING, PARAMETERS)
    assert summary["median_width"] == np.median(table["width"])
    assert summary["median_height"] == np.median(table["height"])


def test_one_drawn_image_makes_them_phantoms(table):
    assert summarise(table, NOTHING, PACKING, PARAMETERS)["images"] == "real cells"
    table.loc[len(table) // 2, "phantom"] = True
    assert summarise(table, NOTHING, PACKING, PARAMETERS)["images"] == "phantom cells"


def test_one_generated_image_makes_them_synthetic(table):
    table.loc[len(table) // 2, "synthetic"] = True
    summary = summarise(table, NOTHING, PACKING, PARAMETERS)
    assert (summary["images"], summary["synthetic"]) == ("synthetic cells", 1)


def test_rejections_are_counted_by_kind(table):
    rejected = pd.DataFrame(
        {
            "path": [f"{k}.png" for k in range(5)],
            "reason": ["empty file", "unreadable: a", "unreadable: b: c", "too large: 9 x 9", "empty file"],
        }
    )
    summary = summarise(table, rejected, PACKING, PARAMETERS)
    assert summary["rejected"] == 5
    assert summary["rejected_by_reason"] == {"empty file": 2, "unreadable": 2, "too large": 1}


def test_nothing_rejected_is_counted_as_nothing(table):
    summary = summarise(table, NOTHING, PACKING, PARAMETERS)
    assert (summary["rejected"], summary["rejected_by_reason"]) == (0, {})


def test_classes_are_counted(table):
    by_class = summarise(table, NOTHING, PACKING, PARAMETERS)["cells_by_class"]
    assert by_class == {label: (table["label"] == label).sum() for label in ("Parasitized", "Uninfected")}
    assert counted({"A": 3, "None": 40}) == "A 3, None 40"
    assert counted({f"{k:03}": k for k in range(25)}).endswith("019 19 and 5 more classes")


def of_paths(*paths: str) -> pd.DataFrame:
    return pd.DataFrame({"path": paths, "label": [path.split("/")[-2] for path in paths]})


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["x/COVID/images/1.png", "x/Normal/images/1.png"], (["images"], ["COVID", "Normal"])),
        (["val/A/1.png", "train/A/1.png", "train/B/1.png"], (["A"], ["train", "val"])),
        (["Benign/P1/1.png", "Malignant/P2/1.png"], ([], [])),
        (["cells/A/1.png", "cells/B/1.png"], ([], [])),
        (["A/1.png", "B/1.png"], ([], [])),
    ],
)
def test_folders_that_repeat_in_every_other_are_found(paths, found):
    assert repeated_folders(of_paths(*paths)) == found


def test_it_is_ready_for_json(table):
    summary = summarise(table, NOTHING, PACKING, PARAMETERS)
    assert json.loads(json.dumps(summary)) == summary
