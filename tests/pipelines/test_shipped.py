"""The model that comes with the repository makes cells at once, of an environment that has trained none."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import UserError

from ..projects import ROOT, make_project

SHIPPED = ROOT / "models/nlm-64"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("project"), parameters={})
    shutil.copytree(SHIPPED, project.folder / "models/nlm-64")
    few = "diffusion.sampling.count=6,diffusion.sampling.evaluations=8"
    project.succeeds("run", "--env", "nlm", "--pipeline", "diffusion", "--tags", "sample", "--params", few)
    return project


def test_sampling_needs_no_training(project):
    table = pd.read_parquet(project.folder / "data/07_model_output/nlm/synthetic_table.parquet")
    lineage = json.loads((SHIPPED / "lineage.json").read_text())
    assert set(table["model_identity"]) == {lineage["identity"]}
    assert table["label"].value_counts().to_dict() == {"Parasitized": 6, "Uninfected": 6}
    assert not lineage["phantom"]


def test_they_lie_apart_from_those_of_phantom_cells(project):
    assert {path.name for path in (project.folder / "data/07_model_output").iterdir()} <= {"nlm", ".gitkeep"}


def test_its_cells_lie_on_black_and_are_of_the_colour_of_stained_blood(project):
    cells = np.load(project.folder / "data/07_model_output/nlm/synthetic_cells.npy").astype(int)
    assert cells.shape == (12, 3, 64, 64)
    assert np.median(cells[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]) < 30  # the corners
    red, green, blue = cells[:, :, 24:40, 24:40].mean(axis=(0, 2, 3))
    assert red > blue > green > 80


def test_it_does_not_judge_cells_that_it_was_not_trained_beside(project):
    project.succeeds(
        "run", "--env", "nlm", "--pipeline", "data_processing", "--params", "raw_cells=data/01_raw/phantom_cells.zip"
    )
    part = ["--to-outputs", "fidelity_metrics", "--params", "validation.classifier.weights=null"]
    said = project.fails("run", "--env", "nlm", "--pipeline", "validation", *part)
    assert "trained on other cells than the training cells of cells and cell_table" in said


def test_a_damaged_file_is_named(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "model")
    weights = tmp_path / "model/unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"unet/diffusion_pytorch_model\.safetensors: found sha256"):
        DiffusionModel.load(tmp_path / "model")


def test_it_is_small_and_names_who_it_was_trained_on():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 16e6
    lineage = DiffusionModel.load(SHIPPED).lineage
    assert len(lineage.training_people) == 108
    assert len(lineage.training_cells) == 14398
