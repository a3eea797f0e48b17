"""Runs that are stopped, save in other threads, start in sub-folders or at once: MLflow tells what happened."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import time

import mlflow
import pytest
from PIL import Image

from ..projects import make_project

DATA = ("run", "--pipeline", "data_processing")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def processed(project):
    """Of which the first two runs, which make the database, have started at once."""
    both = [project.start(*DATA) for _ in range(2)]
    assert [run.wait(timeout=600) for run in both] == [0, 0], project.printed.read_text()[-5000:]
    return project


def client(project):
    return mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")


def runs(project):
    """The last first."""
    experiment = client(project).get_experiment_by_name("malaria_diffusion")
    return client(project).search_runs([experiment.experiment_id])


def artefacts(project, run):
    return {file.path for file in client(project).list_artifacts(run.info.run_id)}


def test_two_first_runs_at_once_are_two_runs_that_take_turns(processed):
    second, first = runs(processed)
    assert [run.info.status for run in (first, second)] == ["FINISHED", "FINISHED"]
    assert first.info.end_time <= second.info.start_time


def test_results_saved_in_other_threads_are_in_the_run(processed):
    processed.succeeds(*DATA, "--async")
    assert "figure_0_dataset.png" in artefacts(processed, runs(processed)[0])


def test_a_run_from_a_sub_folder_is_the_project_s(processed):
    before = len(runs(processed))
    inside = dataclasses.replace(processed, folder=processed.folder / "notebooks")
    printed = inside.succeeds(*DATA)
    assert "prepare_cells: Pack and split" in printed  # logging.yml was found
    assert len(runs(processed)) == before + 1
    assert runs(processed)[0].info.artifact_uri.startswith(f"{processed.folder}/mlruns/")
    assert not {"mlflow.db", "mlruns", "data"} & {path.name for path in inside.folder.iterdir()}


def test_a_deleted_experiment_is_used_again(processed):
    before = len(runs(processed))
    client(processed).delete_experiment(client(processed).get_experiment_by_name("malaria_diffusion").experiment_id)
    processed.succeeds(*DATA)
    assert len(runs(processed)) >= before
    assert runs(processed)[0].info.status == "FINISHED"


def test_a_run_of_another_experiment_is_refused(processed):
    other = client(processed).create_run(client(processed).create_experiment("outer")).info.run_id
    for given, found in ((other, "'outer'"), ("0" * 32, "no such run")):
        message = dataclasses.replace(processed, variables={"MLFLOW_RUN_ID": given}).fails(*DATA)
        assert f"MLFLOW_RUN_ID={given}: found {found}, expected a run of the experiment 'malaria_diffusion'" in message
        assert "❱" not in message


def test_a_damaged_list_of_open_runs_is_told_and_made_anew(processed):
    file = processed.folder / "data/02_intermediate/open_mlflow_runs.json"
    file.write_text("")
    assert f"{file} is damaged" in processed.succeeds(*DATA).replace("\n", "")
    assert json.loads(file.read_text()) == {}


def test_a_place_without_room_for_a_file_is_told_and_nothing_is_left_there(processed):
    cells = processed.folder / "data/03_primary/cells.npy"
    before = cells.read_bytes()
    for shade, name in enumerate(("A/1.png", "A/2.png", "B/1.png", "B/2.png")):
        image = processed.folder / "images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (50 * shade + 50, 90, 90)).save(image)
    shutil.copy(processed.folder / "images/A/2.png", processed.folder / "images/B/3.png")  # packed, and left out again
    beside = processed.folder / "data/02_intermediate/packing.tmp.kept.npy"
    beside.symlink_to("/dev/full")
    message = processed.fails(*DATA, "--params", "raw_cells=images")
    assert "packing.npy: could not be used, found 'No space left on device'; free space there" in message
    assert "❱" not in message
    assert cells.read_bytes() == before
    assert not os.path.lexists(beside)
    assert not list(beside.parent.glob("packing*"))
    assert runs(processed)[0].info.status == "FAILED"


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_is_killed_and_goes_on(processed, stop, status):
    parameters = f"diffusion.training.epochs=5000,diffusion.training.quality_epochs=2500,diffusion.training.seed={stop}"
    arguments = ("run", "--pipeline", "diffusion", "--to-nodes", "diffusion.train_ddpm", "--params", parameters)
    before = len(runs(processed))
    run = processed.start(*arguments)
    with contextlib.ExitStack() as stack:
        stack.callback(run.kill)
        deadline = time.monotonic() + 120
        while "training DDPM:" not in processed.printed.read_text():
            assert run.poll() is None, processed.printed.read_text()[-5000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        run.send_signal(stop)
        assert run.wait(timeout=60) == status
    assert len(runs(processed)) == before + 1
    (stopped,) = runs(processed)[:1]
    assert stopped.info.status == "KILLED"
    open_runs = processed.folder / "data/02_intermediate/open_mlflow_runs.json"
    assert stopped.info.run_id in json.loads(open_runs.read_text()).values()
