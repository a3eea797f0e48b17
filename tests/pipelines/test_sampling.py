"""Images for people who have a trained model and nothing else."""

import json
import shlex
import zipfile

import pytest
import torch
import yaml

from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.diffusion.model import DiffusionModel, Lineage
from malaria_diffusion.diffusion.network.unet import build_network

from ..projects import ROOT, TINY, make_project

SETTINGS = "diffusion.sampling.count.Parasitized=3,diffusion.sampling.count.Uninfected=40,diffusion.sampling.seed=7"


def untrained_model():
    """A model as an export leaves it, but for the training."""
    parameters = yaml.safe_load((ROOT / "conf/base/parameters_diffusion.yml").read_text())["diffusion"]
    parts = {name: parameters[name] | TINY["diffusion"][name] for name in ("process", "network", "training")}
    facts = {
        "identity": "abc",
        "epochs": 0,
        "images_seen": 0,
        "cells_fingerprint": "d",
        "training_cells_fingerprint": "e",
    }
    classes = {"class_names": ["Parasitized", "Uninfected"], "size": 16, "phantom": True}
    people = {"training_people": ["P1"], "training_people_hash": fingerprint_names(["P1"]), "training_cells": ["0"]}
    lineage = Lineage.model_validate(facts | classes | people | parts)
    torch.manual_seed(0)
    network = build_network(lineage.network, lineage.size, 2, lineage.null_class is not None)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    return DiffusionModel.from_weights(weights, lineage, weights)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("project"))
    (project.folder / "data/01_raw/phantom_cells.zip").unlink()
    untrained_model().save(project.folder / "data/06_models/ddpm")
    return project


@pytest.fixture(scope="module")
def archive(project):
    project.succeeds("run", "--pipeline", "diffusion", "--tags", "sample", "--params", SETTINGS)
    return project.folder / "data/07_model_output/synthetic_images.zip"


def test_the_stored_model_is_all_that_sampling_needs(archive):
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.endswith(".png")]
    assert [names[0], names[-1], len(names)] == ["Parasitized/000000.png", "Uninfected/000042.png", 43]


def test_the_stated_command_makes_the_same_bytes_again(project, archive):
    before = archive.read_bytes()
    with zipfile.ZipFile(archive) as file:
        command = shlex.split(json.loads(file.read("manifest.json"))["command"])
    archive.unlink()
    project.succeeds(*command[1:])
    assert archive.read_bytes() == before


def test_threads_and_a_read_only_conf_make_the_same_bytes(project, archive):
    before = archive.read_bytes()
    conf = sorted((project.folder / "conf").rglob("*"), reverse=True)
    written = {path: path.stat().st_mtime_ns for path in conf}
    archive.unlink()
    for path in conf:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        arguments = ("--tags", "sample", "--params", SETTINGS, "--runner", "ThreadRunner")
        project.succeeds("run", "--pipeline", "diffusion", *arguments)
    finally:
        for path in reversed(conf):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert archive.read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in (project.folder / "conf").rglob("*")} == written


def test_a_place_that_holds_something_else_is_refused_before_any_work(project, tmp_path):
    (tmp_path / "mine.jpg").write_text("mine")
    cells = project.folder / "data/07_model_output/synthetic_cells.npy"
    cells.unlink(missing_ok=True)
    arguments = ("run", "--pipeline", "diffusion", "--tags", "sample", "--params", f"synthetic_images={tmp_path}")
    message = project.fails(*arguments)
    assert "holds something else than synthetic images" in message
    assert "Traceback" not in message
    assert not cells.exists()


def test_synthetic_images_given_as_raw_cells_are_recognised(project, archive):
    environment = project.folder / "conf/synthetic"
    environment.mkdir()
    parameters = {**TINY, "data_processing": {"packing": {"size": 16}, "split": {"person_patterns": []}}}
    (environment / "parameters.yml").write_text(yaml.safe_dump(parameters))
    settings = "diffusion.sampling.count=40,synthetic_images=2024_05_12"
    project.succeeds("run", "--pipeline", "diffusion", "--tags", "sample", "--params", settings)
    arguments = ("run", "--env", "synthetic", "--pipeline", "data_processing", "--params", "raw_cells=2024_05_12")
    assert "80 of 80 images say that they are synthetic" in " ".join(project.succeeds(*arguments).split())
    summary = json.loads((project.folder / "data/03_primary/dataset_summary.json").read_text())
    assert (summary["synthetic"], summary["cells"], summary["rejected"]) == (80, 80, 0)
