"""Several processes that train and sample together do what one does."""

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from malaria_diffusion.compute.distributed import Processes, join_processes
from malaria_diffusion.diffusion.config import (
    NetworkParameters,
    ProcessParameters,
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.diffusion.sampling import Denoiser, sample
from malaria_diffusion.diffusion.training import trainer as training
from malaria_diffusion.diffusion.training.checkpoint import load_progress
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.trainer import BEST, CHECKPOINT, load_best_weights, train

from ..processes import Forked, told_by_a_launcher
from . import trainings
from .trainings import MODERN, STEPS, farthest, state_of

CASES = {
    "plain": {},
    "accumulation": {"accumulation": 2, "optimizer": "adamw", "weight_decay": 0.1},
    "modern": MODERN,
    "learned": {"process": {"schedule": "learned"}, "loss": "bound", "label_dropout": 0.3},
}
# Muon divides by norms, so what was rounded before shows more after
ROUNDING = {"modern": 1e-4}


@pytest.mark.parametrize("total", [0, 1, 2, 7, 12, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_follow_each_other_and_are_all(total, count):
    shares = [Processes(index, count).share(total) for index in range(count)]
    assert [thing for share in shares for thing in share] == list(range(total))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("launched", [False, True])
def test_one_process_is_alone(monkeypatch, launched):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if launched:
        monkeypatch.setenv("WORLD_SIZE", "1")
    processes = join_processes(torch.device("cpu"))
    assert (processes.index, processes.count, processes.is_main) == (0, 1, True)
    part = np.arange(3)
    assert processes.concatenate(part) is part
    assert processes.mean(torch.tensor(2.0)) == 2
    processes.wait()


@pytest.fixture(scope="module")
def settings(process, network_parameters, parameters):
    """Process, network and training of a case: 16 steps, so small that Adam blows no rounding up."""

    def changed(training_changes, process_changes=None, network_changes=None):
        usual = {"epochs": 2, "learning_rate": 3e-4}
        return (
            ProcessParameters(**process.model_dump() | (process_changes or {})),
            NetworkParameters(**network_parameters.model_dump() | (network_changes or {})),
            TrainingParameters(**parameters.model_dump() | usual | training_changes),
        )

    return lambda process=None, network=None, **changes: changed(changes, process, network)


@pytest.fixture(scope="module")
def guided(sampling_parameters):
    return SamplingParameters(**sampling_parameters.model_dump() | {"guidance": 1.5, "batch_size": 2})


@pytest.fixture(scope="module")
def alone(data, settings, tmp_path_factory):
    """Each case, and the first epoch of the plain one, trained by one process."""
    base = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LOG_STEPS", 3)
        patch.setattr(training, "CHECKPOINT_SHARE", math.inf)
        for name, changes in CASES.items():
            train(data, *settings(**changes), base / name)
        train(data, *settings(epochs=1), base / "begun")
    return base


@pytest.fixture(scope="module")
def together(settings, guided, alone, tmp_path_factory):
    """The same by two processes; the plain case also from where one process stopped; and what cannot be done."""
    base = tmp_path_factory.mktemp("together")
    shutil.copytree(alone / "begun", base / "continued")
    jobs = []
    for name, changes in (CASES | {"continued": {}, "odd": {"batch_size": 5}}).items():
        process, network, parameters = (part.model_dump(mode="json") for part in settings(**changes))
        job = {"folder": str(base / name), "process": process, "network": network, "training": parameters}
        jobs.append(job | ({"sampling": guided.model_dump(mode="json")} if name == "learned" else {}))
    constants = {"CHECKPOINT_SHARE": math.inf, "LOG_STEPS": 3}
    (base / "jobs.json").write_text(json.dumps({"threads": 1, "constants": constants, "jobs": jobs}))
    children, told = [], []
    for rank, address in enumerate(told_by_a_launcher()):
        told.append(base / f"told {rank}")
        children.append(
            Forked(
                Path(trainings.__file__),
                str(base / "jobs.json"),
                folder=base,
                variables=os.environ | address | {"OMP_NUM_THREADS": "1"},
                printed=(told[-1], told[-1]),
            )
        )
    try:
        codes = [child.wait(timeout=240) for child in children]
    finally:
        for child in children:
            child.kill()
    assert codes == [0, 0], "\n".join(text.read_text()[-3000:] for text in told)
    return base


def history_of(folder, rank=0):
    return pd.read_json(folder / f"history {rank}", precise_float=True)


def stored_history(folder):
    return pd.DataFrame(load_progress(folder / CHECKPOINT)["history"])


def close(one, other, rounding=1e-5):
    """Kernel distances are of images whose grey levels are rounded, and less close."""
    for tolerance, columns in ((rounding, one.columns.drop("kernel_distance")), (1e-2, ["kernel_distance"])):
        pd.testing.assert_frame_equal(one[columns], other[columns], rtol=tolerance, atol=tolerance, check_dtype=False)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(alone, together, case):
    assert farthest(alone / case, together / case) < ROUNDING.get(case, 1e-5)
    close(history_of(together / case), stored_history(alone / case), ROUNDING.get(case, 1e-5))
    assert state_of(together / case)[1]["settings"] == state_of(alone / case)[1]["settings"]
    # rounding tells that it was done in parts
    assert farthest(alone / case, together / case) > 0


@pytest.mark.parametrize("case", CASES)
def test_every_process_is_told_the_same(together, case):
    pd.testing.assert_frame_equal(history_of(together / case, 0), history_of(together / case, 1), check_exact=True)


@pytest.mark.parametrize("case", CASES)
def test_the_best_weights_are_those_of_one_process(alone, together, case):
    one, other = load_best_weights(alone / case), load_best_weights(together / case)
    assert one.epoch == other.epoch
    assert one.kernel_distance == pytest.approx(other.kernel_distance, rel=1e-2, abs=1e-2)
    for name, weight in one.weights.items():
        if not name.endswith("to_k.bias"):
            assert (weight - other.weights[name]).abs().max() < ROUNDING.get(case, 1e-5), name


def test_two_processes_continue_what_one_began(alone, together):
    assert load_progress(alone / "begun" / CHECKPOINT)["step"] == STEPS
    assert load_progress(together / "continued" / CHECKPOINT)["step"] == 2 * STEPS
    assert farthest(alone / "plain", together / "continued") < 1e-5
    close(history_of(together / "continued"), stored_history(alone / "plain"))


def test_one_process_continues_what_two_began(data, settings, together, tmp_path):
    folder = shutil.copytree(together / "plain", tmp_path / "plain")
    train(data, *settings(epochs=3), folder)
    train(data, *settings(epochs=3), tmp_path / "alone")
    assert farthest(tmp_path / "alone", folder) < 2e-5


def test_two_processes_generate_the_images_of_one_in_their_order_on_each(together, settings, guided):
    folder = together / "learned"
    process, network, parameters = settings(**CASES["learned"])
    objective = Objective(process, network, parameters, 8, 2, torch.float32)
    objective.load_state_dict(load_best_weights(folder).weights)
    with torch.no_grad():
        diffusion = objective.diffusion
    expected = sample(Denoiser(objective.network, diffusion, 8, objective.null_class), np.arange(7) % 2, guided)
    one, other = (np.load(folder / f"images {rank}.npy") for rank in (0, 1))
    assert np.array_equal(one, other)
    assert one.shape == expected.shape == (7, 3, 8, 8)
    assert np.abs(one.astype(int) - expected).max() <= 1
    assert len({image.tobytes() for image in one}) == 7


def test_a_batch_that_two_processes_cannot_share_is_an_error_on_each(together):
    for rank in (0, 1):
        told = (together / "odd" / f"error {rank}").read_text()
        assert "batch_size 5 cannot be divided by 2 processes and 1 parts each" in told
        assert "choose a multiple of 2" in told
    assert not (together / "odd" / CHECKPOINT).exists()


def test_only_the_main_process_writes(together):
    """In the other one writing is an error, see `trainings.main`."""
    for case in CASES:
        found = {path.name for path in (together / case).iterdir()}
        assert found - {"images 0.npy", "images 1.npy"} == {CHECKPOINT, BEST, "history 0", "history 1"}
