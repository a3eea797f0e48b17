"""The study of the number of diffusion steps on a tiny project: whole, again, killed, beside the diffusion pipeline."""

import json
import os
import signal
import time

import mlflow
import numpy as np
import pandas as pd
import pytest

from ..projects import TINY, make_processed_project

# 10 steps are to this study what 1,000 are to the paper's
ABLATION = {"timesteps": [4, 6, 10], "reference_timesteps": 10, "epochs": 1, "seeds": [0], "images": 20}
RUN = ("run", "--pipeline", "ablation")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_processed_project(tmp_path_factory.mktemp("project"), TINY | {"ablation": ABLATION})


@pytest.fixture(scope="module")
def printed(project):
    return project.succeeds(*RUN)


def table_of(project):
    return pd.read_csv(project.folder / "data/08_reporting/ablation_table.csv")


def written(project):
    """When each training and measurement was last written."""
    work = project.folder / "data/02_intermediate"
    files = [*(work / "ddpm").glob("*/checkpoint.safetensors"), *(work / "ablation").iterdir()]
    return {path.relative_to(work): path.stat().st_mtime_ns for path in files}


def test_every_value_is_trained_measured_and_judged(project, printed):
    assert "3 of 5: T = 10, unscaled, seed 0" in printed
    table = table_of(project)
    assert list(zip(table["betas"], table["timesteps"], strict=True)) == [
        (betas, steps) for betas in ("unscaled", "scaled") for steps in (4, 6, 10)
    ]
    assert table.notna().all(axis=None)
    assert table.groupby("timesteps")["identity"].nunique().to_dict() == {4: 2, 6: 2, 10: 1}
    assert table.groupby("timesteps")["alpha_bar_last"].nunique().to_dict() == {4: 2, 6: 2, 10: 1}
    assert (table.loc[table["betas"] == "scaled", "beta_last"] * table["timesteps"].iloc[3:]).round(12).eq(0.2).all()
    assert (table["images"] == 20).all()
    for column in ("training_seconds", "sampling_seconds", "nearest", "nearest_ratio", "kernel_distance_error"):
        assert (table[column] > 0).all()
    assert np.allclose(table["nearest"] / table["floor_nearest"], table["nearest_ratio"])

    samples = np.load(project.folder / "data/07_model_output/ablation_samples.npy")
    assert samples.shape == (6, 12, 3, 16, 16)
    assert (samples[2] == samples[5]).all()
    assert (samples[0] != samples[3]).any()

    claims = pd.read_csv(project.folder / "data/08_reporting/ablation_claims.csv")
    assert claims.groupby("claim").size().to_dict() == {
        "more steps denoise better": 2,
        "training takes longer": 1,
        "few steps look like overfitting": 2,
    }
    assert set(claims["verdict"]) <= {"confirmed", "refuted", "not decided"}
    assert (project.folder / "data/08_reporting/figure_9_ablation.png").exists()


def test_what_is_finished_is_neither_trained_nor_measured_again(project, printed):
    table, before = table_of(project), written(project)
    again = project.succeeds(*RUN)
    assert again.count("nothing to do") == again.count("measured already") == 5
    assert "sampling (ancestral)" not in again
    assert written(project) == before
    pd.testing.assert_frame_equal(table_of(project), table)


def test_more_images_are_measured_without_training(project, printed):
    before = written(project)
    again = project.succeeds(*RUN, "--params", "ablation.images=40")
    assert again.count("nothing to do") == 5
    assert "measured already" not in again
    assert before.items() <= written(project).items()
    assert (table_of(project)["images"] == 40).all()


def test_the_diffusion_pipeline_shares_its_trainings(project, printed):
    parameters = "diffusion.training.epochs=1,diffusion.training.decay_epochs=1"
    arguments = ("run", "--pipeline", "diffusion", "--to-nodes", "diffusion.train_ddpm", "--params", parameters)
    assert "has 1 epochs behind it: nothing to do" in project.succeeds(*arguments)
    checkpoint = json.loads((project.folder / "data/06_models/ddpm_checkpoint.json").read_text())
    assert checkpoint["identity"] in set(table_of(project)["identity"])


def test_a_killed_study_goes_on_after_what_it_has_finished(project, printed):
    before = written(project)
    arguments = (*RUN, "--params", "ablation.epochs=3")
    process = project.start(*arguments)
    deadline = time.monotonic() + 200
    while not any(path.suffix == ".json" and "floor" not in path.name for path in set(written(project)) - set(before)):
        assert process.poll() is None, project.printed.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: when for path, when in written(project).items() if ".tmp" not in path.name}

    again = project.succeeds(*arguments)
    assert again.count("nothing to do") == 5
    assert 1 <= again.count("measured already") < 5
    numbers = {
        path: when for path, when in finished.items() if path.suffix != ".npy"
    }  # one may have had no numbers yet
    assert numbers.items() <= written(project).items()
    assert (table_of(project)["epochs"] == 3).all()
    assert len(table_of(project)) == 6
    runs = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    experiment = runs.get_experiment_by_name("malaria_diffusion").experiment_id
    (study,) = runs.search_runs([experiment], "tags.pipeline = 'ablation' and params.`ablation.epochs` = '3'")
    below = runs.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")
    assert sorted(run.info.run_name for run in below) == sorted(
        f"T = {steps}, {betas}, seed 0"
        for betas in ("unscaled", "scaled")
        for steps in (4, 6, 10)[: 3 - (betas[0] == "s")]
    )
    for run in below:
        assert run.info.status == "FINISHED"
        assert run.info.run_name.startswith(f"T = {run.data.params['timesteps']}, {run.data.params['betas']}")
        steps = [point.step for point in runs.get_metric_history(run.info.run_id, "training/loss")]
        assert steps == sorted(set(steps))
        assert len(steps) >= 3  # one an epoch and more
        assert np.isfinite(run.data.metrics["ablation/kernel_distance"])


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("ablation.images=21", ["ablation.images is 21, expected a multiple of 2"]),
        ("ablation.reference_timesteps=1000", ["ablation.timesteps holds 10", "not below 1; take 21 steps at least"]),
    ],
)
def test_an_impossible_study_is_refused_before_it_starts(project, printed, parameter, said):
    before = written(project)
    message = project.fails(*RUN, "--params", parameter)
    for words in said:
        assert words in message
    assert "❱" not in message  # no traceback
    assert written(project) == before
