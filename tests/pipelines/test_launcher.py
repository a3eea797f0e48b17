"""`accelerate launch` in front of the same command: the same cells, by two processes."""

import dataclasses
import json

import mlflow
import numpy as np
import pytest
from safetensors.torch import load_file

from ..processes import run_forked
from ..projects import SCRIPTS, make_processed_project

LAUNCH = [
    *["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"],
    *["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "kedro"],
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_processed_project(tmp_path_factory.mktemp("launched"))


def launch(project, *arguments):
    variables = project.environment | {"CUDA_VISIBLE_DEVICES": ""}
    return run_forked(SCRIPTS / "accelerate", *LAUNCH, *arguments, folder=project.folder, variables=variables)


def results(project):
    data = project.folder / "data"
    (best,) = (data / "02_intermediate/ddpm").glob("*/best.safetensors")
    history = (data / "06_models/training_history.csv").read_text()
    return load_file(best), np.load(data / "07_model_output/synthetic_cells.npy").astype(int), history


def test_two_processes_make_the_cells_of_one_and_write_once(project, tmp_path_factory):
    launched = launch(project, "run", "--pipeline", "diffusion")
    assert launched.returncode == 0, launched.stdout[-5000:] + launched.stderr[-5000:]
    weights, cells, history = results(project)

    alone = make_processed_project(tmp_path_factory.mktemp("alone"))
    alone.succeeds("run", "--pipeline", "diffusion")
    expected, expected_cells, expected_history = results(alone)
    assert weights.keys() == expected.keys()
    # the attention's key bias has no gradient but rounding, which Adam makes whole steps of; Muon rounds to bfloat16
    for name in weights:
        if not name.endswith("to_k.bias"):
            assert (weights[name] - expected[name]).abs().max() < 1e-3, name
    assert np.abs(cells - expected_cells).max() <= 2
    assert len(history.splitlines()) == len(expected_history.splitlines())

    mlflow.set_tracking_uri(f"sqlite:///{project.folder}/mlflow.db")
    names = mlflow.search_runs(experiment_names=["malaria_diffusion"])["tags.pipeline"]
    assert sorted(names) == ["data_processing", "diffusion"]
    lineage = json.loads((project.folder / "data/06_models/ddpm/lineage.json").read_text())
    assert lineage["best_epoch"] in (1, 2)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_what_cannot_be_shared_is_refused_by_each(project, rank):
    """In a process that is told what `accelerate launch` tells it, which the test above has started."""
    of_two = dataclasses.replace(project, variables={"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank})
    assert "launch `kedro run --pipeline diffusion`" in of_two.fails("run")
