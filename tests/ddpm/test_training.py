"""Training: what it computes, and that an interruption anywhere changes nothing."""

import itertools
import json
import math
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from malaria_diffusion.ddpm import checkpoint, training
from malaria_diffusion.ddpm.checkpoint import CheckpointError, load_progress, load_tensors
from malaria_diffusion.ddpm.keyed import Purpose, draw_samples, keyed_generator
from malaria_diffusion.ddpm.network import build_network
from malaria_diffusion.ddpm.parameters import NetworkParameters, ProcessParameters, TrainingParameters
from malaria_diffusion.ddpm.process import GaussianDiffusion
from malaria_diffusion.ddpm.training import (
    CHECKPOINT,
    TrainingError,
    epochs_done,
    load_averaged_weights,
    train,
    training_identity,
)

STEPS = 8  # an epoch, with the data and batch size of the fixtures


@pytest.fixture(autouse=True)
def rows_often(monkeypatch):
    """History rows within epochs, at steps that do not divide them."""
    monkeypatch.setattr(training, "LOG_STEPS", 3)


@pytest.fixture
def run(data, process, network_parameters, parameters):
    """Train in a folder, with other data or parameters if asked; returns the history."""

    def run_in(folder, on_epoch=lambda report: None, data=data, network=None, **changes):
        changed = TrainingParameters(**parameters.model_dump() | changes)
        asked = NetworkParameters(**network_parameters.model_dump() | (network or {}))
        return train(data, process, asked, changed, folder, on_epoch)

    return run_in


def poison(monkeypatch, poisoned_step, batch_size=4):
    """Make one noise value of the batch of one step infinite."""

    def draw(seed, purpose, indices, timesteps, shape):
        drawn = draw_samples(seed, purpose, indices, timesteps, shape)
        if purpose is Purpose.SAMPLE and indices[0] == poisoned_step * batch_size:
            drawn.epsilon[0, 0, 0, 0] = torch.inf
        return drawn

    monkeypatch.setattr(training, "draw_samples", draw)


def state_of(folder):
    return load_tensors(folder / CHECKPOINT), load_progress(folder / CHECKPOINT)


def differences(one, other):
    """Names of the tensors, and of the facts, in which two trainings' checkpoints differ in a single bit."""
    (tensors, progress), (tensors_, progress_) = state_of(one), state_of(other)
    assert tensors.keys() == tensors_.keys()
    names = {name for name in tensors if not torch.equal(tensors[name], tensors_[name])}
    return names | {name for name in progress.keys() | progress_.keys() if progress[name] != progress_[name]}


def weights_of(folder):
    tensors = state_of(folder)[0]
    return {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}


def same_weights(one, other):
    one, other = weights_of(one), weights_of(other)
    return all(torch.equal(one[name], other[name]) for name in one)


# --- what is computed ---


def test_loss_falls(run, tmp_path):
    history = run(tmp_path, epochs=16, ema_decay=0.99)
    validation = history.val_loss.dropna()
    assert len(validation) == 16
    assert history.loss[:3].mean() > 0.7  # v of whitened noise: a network that knows nothing is near 1
    assert history.loss[-6:].mean() < 0.6 * history.loss[:3].mean()
    assert validation.iloc[-1] < 0.6 * validation.iloc[0]


def test_history_tells_each_row_once(run, tmp_path):
    history = run(tmp_path)
    assert history.step.tolist() == [3, 6, 8, 9, 12, 15, 16]
    assert history.epoch.tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert (history.images_seen == 4 * history.step).all()
    assert history.val_loss.notna().tolist() == [False, False, True, False, False, False, True]
    assert np.isfinite(history.loss).all()


def test_the_same_training_twice_is_the_same_to_the_bit(run, tmp_path):
    torch.manual_seed(1)
    first = run(tmp_path / "one")
    torch.manual_seed(2)
    pd.testing.assert_frame_equal(run(tmp_path / "other"), first, check_exact=True)
    assert differences(tmp_path / "one", tmp_path / "other") == set()


@pytest.mark.parametrize("change", [{"seed": 1}, {"flips": False}, {"optimizer": "adamw"}, {"gradient_clip": 0.01}])
def test_parameters_reach_the_weights(run, tmp_path, change):
    run(tmp_path / "one", epochs=1)
    run(tmp_path / "other", epochs=1, **change)
    assert not same_weights(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("flips", [False, True])
def test_steps_are_those_of_a_plain_loop(
    run, data, process, network_parameters, parameters, tmp_path, optimizer, flips
):
    """Algorithm 1 written out, with an unfused optimizer; weights, losses and averages agree."""
    settings = parameters.model_copy(update={"optimizer": optimizer, "flips": flips})
    network = build_network(network_parameters, 8, 2)
    network.load_state_dict(training._Run(data, process, network_parameters, settings, tmp_path).network.state_dict())
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    plain = kind(network.parameters(), lr=0.1, fused=False, foreach=False)
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    bars = torch.from_numpy(np.cumprod(1 - np.linspace(0.001, 0.3, 20))).float().view(-1, 1, 1, 1)
    order = keyed_generator(0, Purpose.ORDER, 0).permutation(data.train_rows)
    losses = []
    for step in range(STEPS):
        plain.param_groups[0]["lr"] = 0.003 * min(1, (step + 1) / 3)
        rows = order[step * 4 : (step + 1) * 4]
        draw = draw_samples(0, Purpose.SAMPLE, range(step * 4, (step + 1) * 4), 20, (3, 8, 8))
        images = data.cells[rows].astype(np.float32) / 127.5 - 1
        for image, (vertical, horizontal) in zip(images, draw.flips.tolist(), strict=True):
            image[:] = image[:, :: -1 if vertical and flips else 1, :: -1 if horizontal and flips else 1].copy()
        x_0, bar = torch.from_numpy(images), bars[draw.t]
        x_t = bar.sqrt() * x_0 + (1 - bar).sqrt() * draw.epsilon
        v = bar.sqrt() * draw.epsilon - (1 - bar).sqrt() * x_0
        output = network(x_t, draw.t, class_labels=torch.from_numpy(data.labels[rows])).sample
        loss = (output - v).square().mean()
        plain.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        plain.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in network.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * value.detach()
        losses.append(loss.item())
    history = run(tmp_path, epochs=1, optimizer=optimizer, flips=flips)
    assert history.loss.tolist() == pytest.approx(
        [np.mean(losses[:3]), np.mean(losses[3:6]), np.mean(losses[6:])], 1e-4
    )
    tensors, _ = state_of(tmp_path)
    for name, value in network.named_parameters():
        # attention does not feel its keys' bias: the gradient is rounding alone, and Adam blows it up to whole steps
        if not name.endswith("to_k.bias"):
            assert (tensors[f"network.{name}"] - value).abs().max() < 1e-4, name
            assert (tensors[f"ema.{name}"] - average[name]).abs().max() < 1e-4, name


def test_averaged_weights_follow_their_closed_form(run, data, tmp_path):
    """One step an epoch shows the weights after each step; the first average reveals the initial weights."""
    one_step = data._replace(train_rows=data.train_rows[:4])
    initial = []
    for rate in (0.003, 0.03):
        folder = tmp_path / str(rate)
        states = []
        for epochs in (1, 2, 3):
            run(folder, data=one_step, epochs=epochs, learning_rate=rate, ema_decay=0.15)
            states.append(weights_of(folder))
        names = [name.removeprefix("ema.") for name in states[0] if name.startswith("ema.")]
        # decay (1 + s) / (10 + s) at first: 1/10, then 0.15 at most, for 2/11 and 3/12 are more
        initial.append({n: (states[0][f"ema.{n}"] - 0.9 * states[0][f"network.{n}"]) / 0.1 for n in names})
        for before, after in itertools.pairwise(states):
            for name in names:
                expected = 0.15 * before[f"ema.{name}"] + 0.85 * after[f"network.{name}"]
                assert torch.allclose(after[f"ema.{name}"], expected, rtol=0, atol=1e-6)
    assert all(torch.allclose(initial[0][name], initial[1][name], rtol=0, atol=1e-4) for name in initial[0])
    assert not torch.equal(states[0]["network.conv_in.weight"], states[1]["network.conv_in.weight"])


def test_without_decay_the_average_is_the_network(run, tmp_path):
    run(tmp_path, epochs=1, ema_decay=0.0)
    weights = weights_of(tmp_path)
    averaged = load_averaged_weights(tmp_path)
    assert averaged
    assert all(torch.equal(value, weights[f"network.{name}"]) for name, value in averaged.items())


def test_averaged_weights_fit_the_network(run, network_parameters, tmp_path):
    run(tmp_path, epochs=1)
    network = build_network(network_parameters, 8, 2)
    network.load_state_dict(load_averaged_weights(tmp_path))


@pytest.fixture
def rates(run, data, tmp_path):
    """The learning rate of every step: with one step an epoch, every one has its row."""

    def rates_of(steps, **changes):
        one_step = data._replace(train_rows=data.train_rows[:2], val_rows=data.val_rows[:1])
        history = run(tmp_path, data=one_step, epochs=steps, batch_size=2, learning_rate=0.004, **changes)
        assert history.step.tolist() == list(range(1, steps + 1))
        return history.learning_rate.tolist()

    return rates_of


def test_learning_rate_is_constant_without_warmup_and_decay(rates):
    assert rates(5, warmup_steps=0) == pytest.approx([0.004] * 5)


def test_learning_rate_warms_up_linearly(rates):
    assert rates(7, warmup_steps=4) == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.004, 0.004, 0.004])


def test_learning_rate_falls_along_a_cosine_to_zero(rates):
    found = rates(24, warmup_steps=0, decay_epochs=24)
    assert found[0] == pytest.approx(0.004)
    assert found[12] == pytest.approx(0.002)
    assert found[-1] < 0.004 * 0.01
    assert found == sorted(found, reverse=True)
    # a cosine is symmetrical about its middle
    assert [a + b for a, b in zip(found[1:], found[:0:-1], strict=True)] == pytest.approx([0.004] * 23)
    assert found == pytest.approx([0.002 * (1 + math.cos(math.pi * step / 24)) for step in range(24)])


def test_learning_rate_warms_up_under_the_cosine(rates):
    found = rates(6, warmup_steps=2, decay_epochs=6)
    cosine = [0.002 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert found == pytest.approx([cosine[0] / 2, *cosine[1:]])


def test_only_training_rows_reach_the_weights(run, data, tmp_path):
    run(tmp_path / "one")
    generator = np.random.default_rng(1)
    cells, labels = generator.integers(0, 256, data.cells.shape).astype(np.uint8), 1 - data.labels
    watched = np.concatenate([data.train_rows, data.val_rows])
    for folder, kept in (("others", watched), ("all but train", data.train_rows), ("nothing", watched[:0])):
        scrambled = data._replace(cells=cells.copy(), labels=labels.copy())
        scrambled.cells[kept], scrambled.labels[kept] = data.cells[kept], data.labels[kept]
        run(tmp_path / folder, data=scrambled)
    assert differences(tmp_path / "one", tmp_path / "others") == set()
    assert differences(tmp_path / "one", tmp_path / "all but train") == {"history"}  # val_loss, and nothing else
    assert not same_weights(tmp_path / "one", tmp_path / "nothing")


def test_every_training_cell_is_drawn_once_an_epoch(run, data, tmp_path):
    """A memory map notes which rows were asked for."""
    asked = []

    class Noting(np.ndarray):
        def __getitem__(self, rows):
            asked.append(rows)
            return np.asarray(self)[rows]

    run(tmp_path, data=data._replace(cells=data.cells.view(Noting)))
    epochs = [asked[:STEPS], asked[STEPS + 1 : 2 * STEPS + 1]]
    assert [sorted(np.concatenate(rows)) for rows in epochs] == [sorted(data.train_rows)] * 2
    assert not np.array_equal(*(np.concatenate(rows) for rows in epochs))  # another order
    assert set(asked[STEPS]) == set(asked[2 * STEPS + 1]) == set(data.val_rows)


def test_validation_loss_is_that_of_the_averaged_weights(run, data, process, network_parameters, tmp_path):
    history = run(tmp_path)
    network = build_network(network_parameters, 8, 2).eval()
    network.load_state_dict(load_averaged_weights(tmp_path))
    rows = keyed_generator(0, Purpose.ORDER, 2**62).permutation(data.val_rows)
    draw = draw_samples(0, Purpose.VALIDATION, range(len(rows)), process.timesteps, (3, 8, 8))
    diffusion = GaussianDiffusion.from_parameters(process)
    x_0 = torch.from_numpy(data.cells[rows].astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        x_t = diffusion.q_sample(x_0, draw.t, draw.epsilon)
        output = network(x_t, draw.t, class_labels=torch.from_numpy(data.labels[rows])).sample
    expected = diffusion.loss(output, x_0, draw.t, draw.epsilon).mean().item()
    assert history.val_loss.iloc[-1] == pytest.approx(expected, rel=1e-5)


def test_fewer_cells_than_a_batch_are_an_error(run, tmp_path):
    with pytest.raises(TrainingError, match=r"32 training cells do not fill one batch of 33; lower.*batch_size"):
        run(tmp_path, batch_size=33)
    assert not (tmp_path / CHECKPOINT).exists()


# --- who is told ---


def test_a_watcher_is_called_once_an_epoch_with_the_whole_history(run, tmp_path):
    reports = []
    history = run(tmp_path, epochs=3, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3]
    for report in reports:
        pd.testing.assert_frame_equal(report.history, history[history.step <= STEPS * report.epoch], check_exact=True)
        assert not report.network.training
        assert report.images_per_second is None or report.images_per_second > 0


def test_a_continued_training_reports_its_new_epochs_with_the_whole_history(run, tmp_path):
    run(tmp_path, epochs=1)
    reports = []
    run(tmp_path, epochs=3, on_epoch=reports.append)
    assert [report.epoch for report in reports] == [2, 3]
    assert [report.history.step.max() for report in reports] == [2 * STEPS, 3 * STEPS]
    assert all(report.history.step.min() == 3 for report in reports)


def test_a_watcher_sees_the_averaged_network(run, tmp_path):
    seen = []

    def look(report):
        seen.append({name: value.clone() for name, value in report.network.state_dict().items()})

    run(tmp_path, epochs=1, on_epoch=look)
    averaged = load_averaged_weights(tmp_path)
    assert all(torch.equal(seen[0][name], value) for name, value in averaged.items())


# --- interruptions ---


def test_stopping_between_epochs_changes_nothing(run, tmp_path):
    whole = run(tmp_path / "whole", epochs=3)
    for epochs in (1, 2, 3):
        history = run(tmp_path / "parts", epochs=epochs)
        assert epochs_done(tmp_path / "parts") == epochs
    pd.testing.assert_frame_equal(history, whole, check_exact=True)
    assert differences(tmp_path / "whole", tmp_path / "parts") == set()


@pytest.mark.parametrize("changes", [{"decay_epochs": 2}, {"optimizer": "adamw", "network": {"dropout": 0.3}}])
@pytest.mark.parametrize("stop", [1, 4, STEPS, STEPS + 3])
def test_stopping_within_an_epoch_changes_nothing(run, tmp_path, monkeypatch, changes, stop):
    """Ctrl-C right after a save in the middle of an epoch."""

    def save_and_stop(path, tensors, progress):
        checkpoint.save_checkpoint(path, tensors, progress)
        if progress["step"] == stop:
            raise KeyboardInterrupt

    whole = run(tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1)
        patch.setattr(training, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", **changes)
    assert load_progress(tmp_path / "parts" / CHECKPOINT)["step"] == stop
    assert epochs_done(tmp_path / "parts") == stop // STEPS
    pd.testing.assert_frame_equal(run(tmp_path / "parts", **changes), whole, check_exact=True)
    assert differences(tmp_path / "whole", tmp_path / "parts") == set()


def test_steps_after_the_last_save_are_repeated(run, tmp_path, monkeypatch):
    """An error at step 13 goes back to the checkpoint of step 8."""
    whole = run(tmp_path / "whole", network={"dropout": 0.3})

    def fail(seed, purpose, indices, timesteps, shape):
        if purpose is Purpose.SAMPLE and indices[0] == 12 * 4:
            raise RuntimeError("out of memory")
        return draw_samples(seed, purpose, indices, timesteps, shape)

    with monkeypatch.context() as patch:
        patch.setattr(training, "draw_samples", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(tmp_path / "parts", network={"dropout": 0.3})
    assert load_progress(tmp_path / "parts" / CHECKPOINT)["step"] == STEPS
    history = run(tmp_path / "parts", network={"dropout": 0.3})
    pd.testing.assert_frame_equal(history, whole, check_exact=True)
    assert differences(tmp_path / "whole", tmp_path / "parts") == set()


def test_a_crash_while_saving_changes_nothing(run, tmp_path, monkeypatch, half_written):
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half_written)
        with pytest.raises(OSError, match="no space left"):
            run(tmp_path / "parts")
    assert epochs_done(tmp_path / "parts") == 1
    pd.testing.assert_frame_equal(run(tmp_path / "parts"), whole, check_exact=True)
    assert differences(tmp_path / "whole", tmp_path / "parts") == set()


SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from malaria_diffusion.ddpm import training
from malaria_diffusion.ddpm.parameters import NetworkParameters, ProcessParameters, TrainingParameters

settings = json.loads(sys.argv[1])
torch.set_num_threads(settings["threads"])
training.CHECKPOINT_SECONDS, training.LOG_STEPS = -1, 3
training.train(
    training.TrainingData(**np.load(settings["data"]), num_classes=2),
    ProcessParameters(**settings["process"]),
    NetworkParameters(**settings["network"]),
    TrainingParameters(**settings["parameters"]),
    Path(settings["folder"]),
)
"""


def test_a_killed_process_changes_nothing(run, data, process, network_parameters, parameters, tmp_path):
    """SIGKILL at any moment, also while a checkpoint is written: each step writes one."""
    arrays = {name: value for name, value in data._asdict().items() if name != "num_classes"}
    np.savez(tmp_path / "data.npz", **arrays)
    settings = {
        "threads": torch.get_num_threads(),
        "data": str(tmp_path / "data.npz"),
        "folder": str(tmp_path / "parts"),
        "process": process.model_dump(mode="json"),
        "network": network_parameters.model_dump() | {"dropout": 0.2},
        "parameters": parameters.model_dump() | {"epochs": 1000},
    }
    command = [sys.executable, "-c", SCRIPT, json.dumps(settings)]
    path = tmp_path / "parts" / CHECKPOINT
    with subprocess.Popen(command, stderr=subprocess.PIPE) as child:
        deadline = time.monotonic() + 120
        while not path.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.5))
        child.send_signal(signal.SIGKILL)
        _, told = child.communicate()
    assert child.returncode == -signal.SIGKILL, told.decode()
    killed_at = load_progress(path)["step"]
    assert killed_at >= 1
    epochs = killed_at // STEPS + 1
    history = run(tmp_path / "parts", epochs=epochs, network={"dropout": 0.2})
    whole = run(tmp_path / "whole", epochs=epochs, network={"dropout": 0.2})
    pd.testing.assert_frame_equal(history, whole, check_exact=True)
    assert differences(tmp_path / "whole", tmp_path / "parts") == set()


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_finished_training_is_left_alone(run, tmp_path, epochs):
    history = run(tmp_path)
    path = tmp_path / CHECKPOINT
    before = path.read_bytes(), path.stat().st_mtime_ns
    reports = []
    again = run(tmp_path, epochs=epochs, on_epoch=reports.append)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert reports == []
    pd.testing.assert_frame_equal(again, history, check_exact=True)


def test_epochs_done_counts_whole_epochs(run, tmp_path):
    assert epochs_done(tmp_path) == 0
    run(tmp_path)
    assert epochs_done(tmp_path) == 2


def test_a_damaged_checkpoint_is_an_error_and_stays(run, tmp_path):
    path = tmp_path / CHECKPOINT
    path.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        run(tmp_path)
    assert path.read_bytes() == b"garbage"


# --- losses that are not finite ---


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(run, tmp_path, monkeypatch):
    poison(monkeypatch, 1)
    with pytest.raises(
        TrainingError, match=r"loss became (nan|inf) .* before step 3; nothing was saved.*learning_rate"
    ):
        run(tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize("poisoned", [STEPS, STEPS + 1, 2 * STEPS - 1])
def test_a_loss_that_is_not_finite_leaves_the_former_checkpoint(run, tmp_path, monkeypatch, poisoned):
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", epochs=1)
    path = tmp_path / "parts" / CHECKPOINT
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        poison(patch, poisoned)
        with pytest.raises(TrainingError, match=r"before step \d+; the checkpoint .* is from before") as caught:
            run(tmp_path / "parts")
    steps, told = (
        int(number) for number in re.search(r"the (\d+) steps before step (\d+)", str(caught.value)).groups()
    )
    assert told - steps <= poisoned < told
    assert path.read_bytes() == before
    pd.testing.assert_frame_equal(run(tmp_path / "parts"), whole, check_exact=True)


@pytest.mark.parametrize("poisoned", [3, 4, 5])
def test_broken_weights_are_never_saved(run, tmp_path, monkeypatch, poisoned):
    """Saves within an epoch may fall between the step that broke the weights and the row that would tell."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    poison(monkeypatch, poisoned)
    with pytest.raises(TrainingError, match="before"):
        run(tmp_path)
    tensors, progress = state_of(tmp_path)
    assert progress["step"] <= poisoned
    assert not [name for name, value in tensors.items() if not value.isfinite().all()]


def test_weights_broken_by_the_last_step_of_an_epoch_are_not_saved(run, tmp_path, monkeypatch):
    """A finite loss whose gradient is not: only the weights, and what follows from them, tell."""
    run(tmp_path, epochs=1)
    before = (tmp_path / CHECKPOINT).read_bytes()
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def overflow(weights, norm):
        weights = list(weights)
        calls.append(norm)
        if len(calls) == STEPS:
            weights[0].grad.fill_(torch.nan)
        return clip(weights, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", overflow)
    with pytest.raises(TrainingError):
        run(tmp_path)
    assert len(calls) == STEPS
    assert (tmp_path / CHECKPOINT).read_bytes() == before


# --- identity ---

OTHER_PROCESS = {"timesteps": 21, "beta_start": 0.002, "beta_end": 0.4, "prediction": "epsilon"}
OTHER_NETWORK = {
    "channels": [8, 8],
    "layers_per_block": 2,
    "attention_sides": [],
    "norm_groups": 2,
    "dropout": 0.1,
}
OTHER_TRAINING = {
    "batch_size": 8,
    "optimizer": "adamw",
    "learning_rate": 0.1,
    "warmup_steps": 4,
    "decay_epochs": 5,
    "gradient_clip": None,
    "ema_decay": 0.5,
    "flips": False,
    "precision": "bfloat16",
    "seed": 1,
}
NOT_ANOTHER = {"epochs": 3, "device": "auto", "grid_epochs": 2}


@pytest.fixture
def identity(process, network_parameters, parameters):
    def identity_with(cells="cells", training_cells="training cells", **changes):
        good = {"process": process, "network": network_parameters, "training": parameters}
        changed = {part: type(value)(**value.model_dump() | changes.get(part, {})) for part, value in good.items()}
        return training_identity(cells, training_cells, changed["process"], changed["network"], changed["training"])

    return identity_with


def test_identity_changes_with_everything_that_matters(identity):
    alternatives = {"process": OTHER_PROCESS, "network": OTHER_NETWORK, "training": OTHER_TRAINING}
    classes = {"process": ProcessParameters, "network": NetworkParameters, "training": TrainingParameters}
    found = {"as it was": identity(), "cells": identity(cells="x"), "training cells": identity(training_cells="x")}
    for part, others in alternatives.items():
        assert set(others) == set(classes[part].model_fields) - (set(NOT_ANOTHER) if part == "training" else set())
        found |= {f"{part}.{key}": identity(**{part: {key: value}}) for key, value in others.items()}
    assert len(set(found.values())) == len(found) == 1 + 2 + 4 + 5 + 10, found


@pytest.mark.parametrize("key", NOT_ANOTHER)
def test_identity_does_not_change_with_length_place_and_pictures(identity, key):
    assert identity(training={key: NOT_ANOTHER[key]}) == identity()


def test_identity_survives_writing_the_parameters_down(identity, process, network_parameters, parameters):
    written = (process, network_parameters, parameters)
    read = [type(value).model_validate_json(value.model_dump_json()) for value in written]
    assert training_identity("cells", "training cells", *read) == identity()
