"""Images that are not of malaria: class folders of any kind, by one YAML file in an environment of its own."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from malaria_diffusion.statistics.comparison import MOST_CLASSES

from ..projects import ROOT, TINY, make_project

NO_PEOPLE = {"person_patterns": [], "smear_pattern": None, "val_fraction": 0.25, "test_fraction": 0.25}

# one step of everything: what is tested here is that it runs, and what it says
SMALLEST = {
    "diffusion": TINY["diffusion"] | {"sampling": {"count": 6, "evaluations": 4, "precision": "float32"}},
    "validation": TINY["validation"]
    | {
        "comparison": {"n": 80, "resamples": 100, "permutations": 200},
        "explanations": {"cells": 1, "evaluations": 10},
        "utility": {"shares": [0.5, 1.0], "steps": 4, "ddpm_images": 32, "arms": ["augmentation"]},
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


def write_environment(project, name, **differs):
    """One file, and `kedro run --env name` needs no other."""
    folder = project.folder / "conf" / name
    folder.mkdir(exist_ok=True)
    (folder / "parameters.yml").write_text(yaml.safe_dump(differs))


def merged(base, differs):
    """`base` with what `differs`, nested."""
    both = {key: merged(base[key], differs[key]) for key in base.keys() & differs if isinstance(base[key], dict)}
    return base | differs | both


def write_images(folder: Path, labels, images):
    for number, (label, image) in enumerate(zip(labels, images, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / label / f"{number:04}.png")


def read(project, path):
    return json.loads((project.folder / "data" / path).read_text())


def synthetic(project):
    cells = np.load(project.folder / "data/07_model_output/synthetic_cells.npy")
    return cells, pd.read_parquet(project.folder / "data/07_model_output/synthetic_table.parquet")


def test_digits_go_through_the_whole_study(project):
    """And one class more, so that they are more than are compared one by one."""
    digits = load_digits()
    images = (digits.images[:400] * 255 / 16).astype(np.uint8)
    blank = np.random.default_rng(0).integers(0, 40, (40, 8, 8), dtype=np.uint8)
    labels = [str(digit) for digit in digits.target[:400]] + ["none"] * len(blank)
    write_images(project.folder / "data/01_raw/digits", labels, np.concatenate([images, blank]))
    settings = yaml.safe_load((ROOT / "conf/digits/parameters.yml").read_text())
    write_environment(project, "digits", **merged(settings, SMALLEST | {"data_processing": {"split": NO_PEOPLE}}))
    printed = project.succeeds("run", "--env", "digits")
    assert "No people known" in printed
    summary = read(project, "03_primary/dataset_summary.json")
    assert (summary["cells"], summary["people"], summary["grey"]) == (440, 440, True)
    cells, table = synthetic(project)
    classes = {*map(str, range(10)), "none"}
    assert len(classes) > MOST_CLASSES
    assert table["label"].value_counts().to_dict() == dict.fromkeys(classes, 6)
    assert (cells == cells[:, :1]).all()  # grey, exactly
    metrics = read(project, "08_reporting/classification_metrics.json")["unseen"]
    assert set(metrics) == {"accuracy", "balanced_accuracy", "macro_f1", "ece"}
    tests = pd.read_csv(project.folder / "data/08_reporting/distribution_tests.csv")
    assert set(tests["group"]) == {"all"}  # a table of so many classes is read by nobody
    for figure in ("figure_0_dataset", "figure_2_synthetic", "figure_4_confusion", "synthetic_sheet"):
        with Image.open(project.folder / f"data/08_reporting/{figure}.png") as image:
            assert max(image.size) < 4000
    report = (project.folder / "data/08_reporting/report.html").read_text()
    assert "The names tell no people" in report
    assert "This run (other images)" in report
    for word in ("parasit", "infect"):
        assert word not in report.lower().partition('id="claims"')[0]


def test_one_class_is_generated_and_refused_by_the_validation_before_the_training(project):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 20, 24, 3), dtype=np.uint8)
    write_images(project.folder / "data/01_raw/mine", ["nevus"] * 60, images)
    settings = merged(SMALLEST, {"validation": {"comparison": {"positive_class": None}}})
    raw = "data/01_raw/mine"
    write_environment(
        project, "mine", raw_cells=raw, data_processing={"packing": {"size": 16}, "split": NO_PEOPLE}, **settings
    )
    refused = project.fails("run", "--env", "mine")
    assert "all images are of the class 'nevus'" in refused
    assert "training DDPM" not in refused
    project.succeeds("run", "--env", "mine", "--pipelines", "data_processing,diffusion")
    cells, table = synthetic(project)
    assert table["label"].tolist() == ["nevus"] * 6
    assert (cells != cells[:, :1]).any()  # in colour
