"""That an interruption anywhere changes nothing, and that what cannot be continued is said and left alone."""

import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from malaria_diffusion.compute.randomness import Purpose, draw_samples
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.diffusion.sampling import Denoiser, sample
from malaria_diffusion.diffusion.training import checkpoint
from malaria_diffusion.diffusion.training import data as feed
from malaria_diffusion.diffusion.training import trainer as training
from malaria_diffusion.diffusion.training.checkpoint import (
    CheckpointError,
    load_progress,
    load_tensors,
    save_checkpoint,
)
from malaria_diffusion.diffusion.training.quality import QualityMeasure
from malaria_diffusion.diffusion.training.trainer import (
    BEST,
    CHECKPOINT,
    TrainingError,
    epochs_done,
    load_best_weights,
    seconds_per_image,
)

from ..processes import Forked
from . import trainings
from .trainings import MODERN, RICH, STEPS, differences, same_table, state_of


def poison(monkeypatch, poisoned_step, batch_size=4):
    """Make one noise value of the batch of one step infinite."""

    def draw(seed, purpose, indices, timesteps, shape):
        drawn = draw_samples(seed, purpose, indices, timesteps, shape)
        if purpose is Purpose.SAMPLE and indices[0] == poisoned_step * batch_size:
            drawn.epsilon[0, 0, 0, 0] = torch.inf
        return drawn

    monkeypatch.setattr(feed, "draw_samples", draw)


@pytest.fixture
def begun(whole, tmp_path):
    """A copy of a training of one epoch, to be damaged."""
    folder, _ = whole(epochs=1, quality_epochs=1)
    return shutil.copytree(folder, tmp_path / "begun")


def continues(run, whole, folder, **changes):
    """Train on in `folder`; whether all is as in a training never interrupted."""
    one, expected = whole(**changes)
    same_table(run(folder, **changes), expected)
    assert differences(one, folder) == set()


# --- interruptions ---


def test_stopping_between_epochs_changes_nothing(run, whole, tmp_path):
    for epochs in (1, 2):
        run(tmp_path, epochs=epochs, quality_epochs=1, **RICH)
        assert epochs_done(tmp_path) == epochs
    continues(run, whole, tmp_path, epochs=3, quality_epochs=1, **RICH)


@pytest.mark.parametrize("stop", [3, STEPS, STEPS + 1])
@pytest.mark.parametrize("changes", [{"decay_epochs": 2}, RICH, MODERN], ids=["plain", "rich", "modern"])
def test_stopping_within_an_epoch_changes_nothing(run, whole, tmp_path, monkeypatch, changes, stop):
    """Ctrl-C right after a save in the middle of an epoch."""

    def save_and_stop(path, tensors, progress):
        checkpoint.save_checkpoint(path, tensors, progress)
        if progress.get("step") == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1)
        patch.setattr(training, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, quality_epochs=2, **changes)
    assert load_progress(tmp_path / CHECKPOINT)["step"] == stop
    assert epochs_done(tmp_path) == stop // STEPS
    continues(run, whole, tmp_path, quality_epochs=2, **changes)


def test_an_interruption_may_come_between_the_best_weights_and_their_checkpoint(
    run, whole, one_step, tmp_path, monkeypatch
):
    def save_best_and_stop(path, tensors, progress):
        checkpoint.save_checkpoint(path, tensors, progress)
        if path.name == BEST:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", save_best_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, data=one_step, epochs=4, quality_epochs=2)
    assert (load_best_weights(tmp_path).epoch, epochs_done(tmp_path)) == (2, 1)
    continues(run, whole, tmp_path, data=one_step, epochs=4, quality_epochs=2)


def test_steps_after_the_last_save_are_repeated(run, whole, tmp_path, monkeypatch):
    """An error at step 13 goes back to the checkpoint of step 8."""

    def fail(seed, purpose, indices, timesteps, shape):
        if purpose is Purpose.SAMPLE and indices[0] == 12 * 4:
            raise RuntimeError("out of memory")
        return draw_samples(seed, purpose, indices, timesteps, shape)

    with monkeypatch.context() as patch:
        patch.setattr(feed, "draw_samples", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(tmp_path, quality_epochs=2, **RICH)
    assert load_progress(tmp_path / CHECKPOINT)["step"] == STEPS
    continues(run, whole, tmp_path, quality_epochs=2, **RICH)


def test_a_crash_while_saving_changes_nothing(run, whole, tmp_path, monkeypatch, half_written):
    run(tmp_path, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half_written)
        with pytest.raises(CheckpointError, match=r"could not be written .*no space left.*before it is untouched"):
            run(tmp_path)
    assert epochs_done(tmp_path) == 1
    continues(run, whole, tmp_path)


@pytest.fixture
def generated(model, sampling_parameters):
    """Images of the best weights of a training."""

    def generate(folder):
        settings = load_progress(folder / CHECKPOINT)["settings"]
        training = model.lineage.training.model_dump() | {"label_dropout": settings["training"]["label_dropout"]}
        known = {"process": settings["process"], "network": settings["network"], "training": training}
        lineage = type(model.lineage).model_validate(model.lineage.model_dump() | known)
        best = DiffusionModel.from_weights(load_best_weights(folder).weights, lineage)
        labels = np.arange(6) % 2
        return sample(Denoiser(best.network, best.diffusion, 8, lineage.null_class), labels, sampling_parameters)

    return generate


def test_a_killed_process_changes_nothing(run, process, network_parameters, parameters, generated, whole, tmp_path):
    """SIGKILL at any moment, also while a checkpoint is written: each row, a few steps, writes one."""
    changes = {name: value for name, value in RICH.items() if name not in ("process", "network")}
    job = {
        "folder": str(tmp_path / "parts"),
        "process": process.model_dump(mode="json") | RICH["process"],
        "network": network_parameters.model_dump() | RICH["network"],
        "training": parameters.model_dump() | changes | {"epochs": 1000},
    }
    constants = {"CHECKPOINT_SECONDS": -1, "CHECKPOINT_SHARE": float("inf"), "LOG_STEPS": 3}
    job_file = {"threads": torch.get_num_threads(), "constants": constants, "jobs": [job]}
    (tmp_path / "jobs.json").write_text(json.dumps(job_file))
    path = tmp_path / "parts" / CHECKPOINT
    told = tmp_path / "told"
    child = Forked(
        Path(trainings.__file__),
        str(tmp_path / "jobs.json"),
        folder=tmp_path,
        variables=os.environ,
        printed=(told, told),
    )
    deadline = time.monotonic() + 120
    while not path.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(random.uniform(0, 1))
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, told.read_text()
    killed_at = load_progress(path)["step"]
    assert killed_at >= 3
    epochs = killed_at // STEPS + 1
    continues(run, whole, tmp_path / "parts", epochs=epochs, quality_epochs=1, **RICH)
    never_killed, _ = whole(epochs=epochs, quality_epochs=1, **RICH)
    assert np.array_equal(generated(never_killed), generated(tmp_path / "parts"))


def test_a_finished_training_is_left_alone(run, whole, begun):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in begun.iterdir()}
    assert {path.name for path in before} == {CHECKPOINT, BEST}
    reports = []
    again = run(begun, epochs=1, quality_epochs=1, on_epoch=reports.append)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in begun.iterdir()} == before
    assert reports == []
    same_table(again, whole(epochs=1, quality_epochs=1)[1])


def test_what_is_trained_is_never_shortened(run, tmp_path):
    history = run(tmp_path, epochs=2)
    before = (tmp_path / CHECKPOINT).read_bytes()
    same_table(run(tmp_path, epochs=1), history)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


# --- how often ---


def saved_epochs(monkeypatch, run, one_step, folder, epochs, seconds, **changes):
    """Epochs of 100 seconds, and one step, after which a checkpoint was written, if one takes `seconds`."""
    clock, saved = [0.0], []

    def save(path, tensors, progress):
        if path.name == CHECKPOINT:
            clock[0] += seconds
            saved.append(progress["epochs_done"])
        save_checkpoint(path, tensors, progress)

    def pass_epoch(_report):
        clock[0] += 100

    monkeypatch.setattr(training, "save_checkpoint", save)
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", 0.01)
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    run(folder, pass_epoch, data=one_step, epochs=epochs, **changes)
    return saved


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.5, [1, 2, 3, 4, 5, 6, 7]), (1.5, [1, 3, 5, 7]), (2.5, [1, 4, 7]), (100, [1, 7])]
)
def test_checkpoints_take_a_small_share_of_the_time(run, one_step, tmp_path, monkeypatch, seconds, expected):
    assert saved_epochs(monkeypatch, run, one_step, tmp_path, 7, seconds) == expected


def test_the_best_weights_are_never_ahead_of_the_checkpoint(run, one_step, tmp_path, monkeypatch):
    """However long a checkpoint takes: a training that stops there has weights to show that belong to it."""
    distances = iter([5.0, 6.0, 4.0, 3.0, 7.0, 8.0])
    monkeypatch.setattr(QualityMeasure, "distance", lambda self, images: next(distances))
    assert saved_epochs(monkeypatch, run, one_step, tmp_path, 6, 1000, quality_epochs=1) == [1, 3, 4, 6]


# --- checkpoints that cannot be continued ---


def refusal(run, folder, **changes):
    """What a training that cannot be continued says; its files stay as they are."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CheckpointError) as caught:
        run(folder, quality_epochs=1, **changes)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert str(caught.value).startswith(f"{folder / CHECKPOINT}: ")
    return str(caught.value)


DIFFERENT = [
    ({"network": {"channels": [8, 8]}}, "network.channels is [8, 16], expected [8, 8]"),
    ({"network": {"dropout": 0.1}}, "network.dropout is 0.0, expected 0.1"),
    ({"process": {"timesteps": 30}}, "process.timesteps is 20, expected 30"),
    ({"process": {"schedule": "cosine"}}, "process.schedule is 'linear', expected 'cosine'"),
    ({"process": {"prediction": "epsilon"}}, "process.prediction is 'v_prediction', expected 'epsilon'"),
    ({"loss": "min_snr"}, "training.loss is 'simple', expected 'min_snr'"),
    ({"seed": 1}, "training.seed is 0, expected 1"),
    ({"batch_size": 8}, "training.batch_size is 4, expected 8"),
    ({"compile": True}, "training.compile is False, expected True"),
    ({"precision": "bfloat16"}, "training.precision is 'torch.float32', expected 'torch.bfloat16'"),
]


def test_a_checkpoint_of_another_training_is_refused_by_what_differs(run, data, begun):
    for changes, named in DIFFERENT:
        told = refusal(run, begun, **changes)
        assert re.search(r"is of another training \((.*)\); move it away", told)[1] == named
    larger = data._replace(cells=np.zeros((48, 3, 16, 16), dtype=np.uint8))
    halved = {"network": {"attention_sides": [8]}}
    third = data._replace(labels=np.arange(48) % 3, num_classes=3)
    others = data._replace(fingerprint="other cells")
    assert "size is 8, expected 16)" in refusal(run, begun, data=larger, **halved)
    assert "(classes is 2, expected 3)" in refusal(run, begun, data=third)
    assert "(cells is 'toy cells', expected 'other cells')" in refusal(run, begun, data=others)
    told = refusal(run, begun, data=others, seed=1, network={"dropout": 0.1})
    for named in ("cells is", "training.seed is", "network.dropout is"):
        assert named in told


def test_length_and_pieces_are_free_to_change(run, begun):
    run(begun, epochs=2, quality_epochs=1, accumulation=2)
    assert epochs_done(begun) == 2


def flip_byte(path, position):
    whole = bytearray(path.read_bytes())
    whole[position] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("fact", ["step", "images_seen", "epochs_done", "seed"])
def test_a_flipped_bit_in_the_progress_is_refused(run, begun, fact):
    """A number that is another number still: nothing but the checksum tells. All who read it are told."""
    path = begun / CHECKPOINT
    escaped = f'\\"{fact}\\": '.encode()
    flip_byte(path, path.read_bytes().index(escaped) + len(escaped))
    assert "its progress does not match its checksum" in refusal(run, begun)
    for read in (epochs_done, seconds_per_image):
        with pytest.raises(CheckpointError, match=CHECKPOINT):
            read(begun)


def test_tensors_that_do_not_fit_are_refused_by_name(run, begun):
    """Whole and with a right checksum, as of another version."""
    tensors, progress = state_of(begun)
    del tensors["weights.network.conv_in.bias"]
    save_checkpoint(begun / CHECKPOINT, tensors, progress)
    told = "does not hold what this version expects (weights.network.conv_in.bias is absent, expected of shape (8,))"
    assert told in refusal(run, begun)


@pytest.mark.parametrize("fact", ["step", "history", "seconds"])
def test_a_fact_that_is_missing_is_refused_by_name(run, begun, fact):
    tensors, progress = state_of(begun)
    del progress[fact]
    save_checkpoint(begun / CHECKPOINT, tensors, progress)
    assert f"does not hold what this version expects ('{fact}')" in refusal(run, begun)


def test_garbage_is_refused(run, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"garbage")
    assert "not a whole checkpoint" in refusal(run, tmp_path)


@pytest.mark.parametrize("damage", [lambda path: flip_byte(path, -1000), lambda path: path.write_bytes(b"garbage")])
def test_damaged_best_weights_are_refused(begun, damage):
    damage(begun / BEST)
    with pytest.raises(CheckpointError, match=BEST):
        load_best_weights(begun)


# --- losses that are not finite ---


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(run, tmp_path, monkeypatch):
    poison(monkeypatch, 1)
    with pytest.raises(
        TrainingError, match=r"loss became (nan|inf) .* before step 3; nothing was saved.*learning_rate"
    ):
        run(tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize("poisoned", [STEPS, 2 * STEPS - 1])
def test_a_loss_that_is_not_finite_leaves_the_former_checkpoint(run, whole, tmp_path, monkeypatch, poisoned):
    run(tmp_path, epochs=1)
    path = tmp_path / CHECKPOINT
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        poison(patch, poisoned)
        with pytest.raises(TrainingError, match=r"before step \d+; the checkpoint .* is from before") as caught:
            run(tmp_path)
    found = re.search(r"the (\d+) steps before step (\d+)", str(caught.value))
    steps, told = map(int, found.groups())
    assert told - steps <= poisoned < told
    assert path.read_bytes() == before
    continues(run, whole, tmp_path)


@pytest.mark.parametrize("poisoned", [3, 5, 6])
def test_broken_weights_are_never_saved(run, tmp_path, monkeypatch, poisoned):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    poison(monkeypatch, poisoned)
    with pytest.raises(TrainingError, match="before"):
        run(tmp_path)
    tensors, progress = state_of(tmp_path)
    assert progress["step"] <= poisoned
    assert not [name for name, value in tensors.items() if not value.isfinite().all()]


@pytest.mark.parametrize("broken", [3, STEPS])
def test_weights_broken_by_a_finite_loss_are_not_saved(run, tmp_path, monkeypatch, broken):
    """By the last step before a row, whose loss was finite and whose gradient was not: only the weights tell."""
    run(tmp_path, epochs=1, quality_epochs=1)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def overflow(weights, norm):
        weights = list(weights)
        calls.append(norm)
        if len(calls) == broken:
            weights[0].grad.fill_(torch.nan)
        return clip(weights, norm)

    monkeypatch.setattr(training, "LOG_STEPS", 1)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1 if broken == STEPS else 1000)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", overflow)
    with pytest.raises(TrainingError, match=rf"weights are not finite at step {STEPS + broken}.*checkpoint .* is from"):
        run(tmp_path, quality_epochs=1)
    assert len(calls) == broken
    assert load_tensors(tmp_path / CHECKPOINT)
    if broken != STEPS:
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_progress(tmp_path / CHECKPOINT)["step"] < STEPS + broken
    assert Path(tmp_path / BEST).read_bytes() == before[tmp_path / BEST]
