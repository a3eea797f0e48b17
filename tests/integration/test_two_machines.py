"""The commands of docs/many_machines.md for two machines, which here are two launchers on one."""

import json
import socket
import subprocess

import mlflow
import numpy as np
import pytest

from ..projects import SCRIPTS, make_project

pytestmark = pytest.mark.integration


def test_two_launchers_train_one_model(tmp_path):
    project = make_project(tmp_path)
    project.succeeds("run", "--pipeline", "data_processing")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *[SCRIPTS / "accelerate", "launch", "--multi_gpu", "--num_machines", "2", "--num_processes", "2"],
        *["--mixed_precision", "no", "--dynamo_backend", "no"],
        *["--main_process_ip", "127.0.0.1", "--main_process_port", str(port)],
    ]
    environment = project.environment | {"CUDA_VISIBLE_DEVICES": ""}
    printed = [tmp_path / f"machine_{rank}.txt" for rank in range(2)]
    launchers = [
        subprocess.Popen(
            [*command, "--machine_rank", str(rank), "-m", "kedro", "run", "--pipeline", "diffusion"],
            cwd=project.folder,
            env=environment,
            stdout=printed[rank].open("w"),
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    try:
        codes = [launcher.wait(timeout=300) for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.kill()
    assert codes == [0, 0], "".join(file.read_text()[-5000:] for file in printed)

    assert len(np.load(tmp_path / "data/07_model_output/synthetic_cells.npy")) == 40
    assert json.loads((tmp_path / "data/06_models/ddpm/lineage.json").read_text())["best_epoch"] in (1, 2)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(mlflow.search_runs(experiment_names=["malaria_diffusion"])) == 2
