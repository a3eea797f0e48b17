"""What `accelerate launch` starts and tells its processes: the same cells, by two of them.

The processes are forked and told the same; the launcher itself is started by tests/integration/test_two_machines.py.
"""

import json

import mlflow
import numpy as np
import pytest
from safetensors.torch import load_file

from ..processes import Forked, told_by_a_launcher
from ..projects import SCRIPTS, make_processed_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_processed_project(tmp_path_factory.mktemp("launched"))


def launch(project, *arguments):
    """Exit codes and what was printed, of each of two processes."""
    variables = project.environment | {"CUDA_VISIBLE_DEVICES": ""}
    files = [project.folder / f"data/printed_{rank}.txt" for rank in range(2)]
    processes = [
        Forked(
            SCRIPTS / "kedro",
            *arguments,
            folder=project.folder,
            variables=variables | told,
            printed=(file, file),
        )
        for told, file in zip(told_by_a_launcher(), files, strict=True)
    ]
    try:
        codes = [process.wait(timeout=200) for process in processes]  # one may wait for the other in vain
    finally:
        for process in processes:
            process.kill()
    return codes, [" ".join(file.read_text().split()) for file in files]


def results(project):
    data = project.folder / "data"
    (best,) = (data / "02_intermediate/ddpm").glob("*/best.safetensors")
    history = (data / "06_models/training_history.csv").read_text()
    return load_file(best), np.load(data / "07_model_output/synthetic_cells.npy").astype(int), history


def test_two_processes_make_the_cells_of_one_and_write_once(project, tmp_path_factory):
    codes, printed = launch(project, "run", "--pipeline", "diffusion")
    assert codes == [0, 0], printed[0][-3000:] + printed[1][-3000:]
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


def test_what_cannot_be_shared_is_refused_by_each(project):
    codes, printed = launch(project, "run")
    assert codes == [1, 1]
    assert all("launch `kedro run --pipeline diffusion`" in said for said in printed)
