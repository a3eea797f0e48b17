"""Training: what it computes, and who is told."""

import itertools
import json
import math
import time

import numpy as np
import pandas as pd
import pytest
import torch

from malaria_diffusion.compute.randomness import Purpose, draw_samples, keyed_generator
from malaria_diffusion.diffusion.config import NetworkParameters, ProcessParameters, TrainingParameters
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.schedule import LearnedSchedule, schedule_from_parameters
from malaria_diffusion.diffusion.training import trainer as training
from malaria_diffusion.diffusion.training.checkpoint import load_progress
from malaria_diffusion.diffusion.training.trainer import (
    CHECKPOINT,
    GUIDE,
    TrainingError,
    epochs_done,
    load_best_weights,
    load_guide_weights,
    seconds_per_image,
    training_identity,
    training_settings,
)
from malaria_diffusion.errors import UserError

from .trainings import RICH, STEPS, Noting, differences, farthest, same_table, state_of, weights_of


def same_weights(one, other):
    one, other = weights_of(one), weights_of(other)
    return all(torch.equal(one[name], other[name]) for name in one)


def ema_of(folder):
    return weights_of(folder, "ema.network.")


# --- steps ---


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    ("loss", "schedule"), [("simple", "linear"), ("bound", "linear"), ("bound", "learned"), ("min_snr", "cosine")]
)
def test_every_loss_of_every_prediction_falls(run, tmp_path, loss, schedule, prediction):
    """On validation cells, whose draws are fixed: the bound's own scatter over the timesteps hides it elsewhere."""
    process = {"prediction": prediction, "schedule": schedule}
    history = run(tmp_path, process=process, epochs=3, loss=loss, learning_rate=0.01, ema_decay=0.5)
    validation = history.val_loss.dropna()
    assert len(validation) == 3
    assert validation.iloc[-1] < 0.9 * validation.iloc[0]


def test_the_same_training_twice_is_the_same_to_the_bit(run, tmp_path):
    torch.manual_seed(1)
    first = run(tmp_path / "one", epochs=1, quality_epochs=1, **RICH)
    torch.manual_seed(2)
    same_table(run(tmp_path / "other", epochs=1, quality_epochs=1, **RICH), first)
    assert differences(tmp_path / "one", tmp_path / "other") == set()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"flips": False},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"gradient_clip": 0.01},
        {"label_dropout": 0.3},
        {"weight_decay": 0.1},
        {"loss": "min_snr"},
        {"loss": "bound"},
        {"precision": "bfloat16"},
        {"process": {"schedule": "cosine"}, "loss": "simple"},
        {"process": {"schedule": "learned"}, "loss": "bound"},
    ],
    ids=str,
)
def test_parameters_reach_the_weights(run, whole, tmp_path, change):
    without, _ = whole(epochs=1, loss=change["loss"] if "process" in change else "simple")
    run(tmp_path, epochs=1, **change)
    one, other = weights_of(without), weights_of(tmp_path)
    assert not torch.equal(one["conv_in.weight"], other["conv_in.weight"])


PLAIN = {"optimizer": "adam", "flips": False}
TRICKY = {"optimizer": "adamw", "flips": True, "label_dropout": 0.3, "weight_decay": 0.2}


@pytest.mark.parametrize("settings", [PLAIN, {"weight_decay": 0.01}, TRICKY, TRICKY | {"accumulation": 2}], ids=str)
def test_steps_are_those_of_a_plain_loop(run, data, process, network_parameters, parameters, tmp_path, settings):
    """Algorithm 1 written out, with an unfused optimizer; weights, losses and averages agree."""
    settings = parameters.model_copy(update=settings)
    network = build_network(network_parameters, 8, 2, unconditional=settings.label_dropout > 0)
    with training.Trainer(data, process, network_parameters, settings, tmp_path) as begun:
        network.load_state_dict(begun.objective.network.state_dict())
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    plain = kind(network.parameters(), lr=0.1, weight_decay=settings.weight_decay, fused=False, foreach=False)
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
            up, left = (-1 if flip and settings.flips else 1 for flip in (vertical, horizontal))
            image[:] = image[:, ::up, ::left].copy()
        labels = [
            2 if drop < settings.label_dropout else data.labels[row]
            for row, drop in zip(rows, draw.drops.tolist(), strict=True)
        ]
        x_0, bar = torch.from_numpy(images), bars[draw.t]
        x_t = bar.sqrt() * x_0 + (1 - bar).sqrt() * draw.epsilon
        v = bar.sqrt() * draw.epsilon - (1 - bar).sqrt() * x_0
        output = network(x_t, draw.t, class_labels=torch.tensor(labels)).sample
        loss = (output - v).square().mean()
        plain.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        plain.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in network.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * value.detach()
        losses.append(loss.item())
    changes = settings.model_dump() | {"epochs": 1}
    history = run(tmp_path, **changes)
    expected = [np.mean(losses[:3]), np.mean(losses[3:6]), np.mean(losses[6:])]
    assert history.loss.tolist() == pytest.approx(expected, 1e-4)
    weights, ema = weights_of(tmp_path), ema_of(tmp_path)
    for name, value in network.named_parameters():
        # attention does not feel its keys' bias: the gradient is rounding alone, and Adam blows it up to whole steps
        if not name.endswith("to_k.bias"):
            assert (weights[name] - value).abs().max() < 1e-4, name
            assert (ema[name] - average[name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("changes", [{}, RICH | {"network": {}}], ids=["plain", "rich"])
def test_accumulation_changes_no_step(run, tmp_path, changes):
    """To rounding, which Adam blows up in proportion to the learning rate."""
    changes = changes | {"epochs": 1, "learning_rate": 3e-4}
    tables = [run(tmp_path / str(parts), **changes | {"accumulation": parts}) for parts in (1, 2, 4)]
    for parts in (2, 4):
        assert farthest(tmp_path / "1", tmp_path / str(parts)) < 1e-5
        assert not same_weights(tmp_path / "1", tmp_path / str(parts))  # rounding tells that it was done in parts
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], rtol=1e-5)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 3), (5, 2), (2, 4)])
def test_a_batch_that_cannot_be_divided_is_an_error(run, tmp_path, batch_size, accumulation):
    with pytest.raises(TrainingError, match=rf"batch_size {batch_size} cannot be divided .*multiple of {accumulation}"):
        run(tmp_path, batch_size=batch_size, accumulation=accumulation)
    assert not (tmp_path / CHECKPOINT).exists()


def test_fewer_cells_than_a_batch_are_an_error(run, tmp_path):
    with pytest.raises(TrainingError, match=r"32 training cells do not fill one batch of 33; lower.*batch_size"):
        run(tmp_path, batch_size=33)
    assert not (tmp_path / CHECKPOINT).exists()


@pytest.fixture
def initial(data, process, network_parameters, parameters, tmp_path):
    """The weights a training begins with."""
    with training.Trainer(data, process, network_parameters, parameters, tmp_path / "never written") as begun:
        return {name: value.clone() for name, value in begun.objective.network.state_dict().items()}


def after_one_step(run, one_step, folder, **changes):
    run(folder, data=one_step, epochs=1, warmup_steps=0, **changes)
    return weights_of(folder)["conv_in.weight"]


def test_weight_decay_shrinks_the_weights_in_adamw_beside_the_gradient(run, one_step, initial, tmp_path):
    free, decayed = (
        after_one_step(run, one_step, tmp_path / str(decay), optimizer="adamw", weight_decay=decay)
        for decay in (0.0, 0.5)
    )
    assert torch.allclose(free - decayed, 0.003 * 0.5 * initial["conv_in.weight"], rtol=0, atol=1e-7)


def test_weight_decay_is_in_adam_a_part_of_the_gradient(run, one_step, initial, tmp_path):
    """Far larger than the rest of the gradient, it turns Adam's first step, of the learning rate's size, inwards."""
    decayed = after_one_step(run, one_step, tmp_path, weight_decay=0.999, gradient_clip=1e-9)
    weight = initial["conv_in.weight"]
    assert torch.allclose(decayed, weight - 0.003 * weight.sign(), rtol=0, atol=1e-4)


# --- averages ---


@pytest.mark.parametrize("learned", [False, True])
def test_averaged_weights_follow_their_closed_form(run, one_step, tmp_path, learned):
    """One step an epoch shows the weights after each step; the first average reveals the initial weights."""
    changes = {"process": {"schedule": "learned"}, "loss": "bound"} if learned else {}
    initial = []
    for rate in (0.003, 0.03):
        folder = tmp_path / str(rate)
        states = []
        for epochs in (1, 2, 3):
            run(folder, data=one_step, epochs=epochs, learning_rate=rate, ema_decay=0.15, **changes)
            states.append(state_of(folder)[0])
        names = [name.removeprefix("ema.") for name in states[0] if name.startswith("ema.")]
        assert ("schedule.logits" in names) == learned
        # decay (1 + s) / (10 + s) at first: 1/10, then 0.15 at most, for 2/11 and 3/12 are more
        initial.append({n: (states[0][f"ema.{n}"] - 0.9 * states[0][f"weights.{n}"]) / 0.1 for n in names})
        for before, after in itertools.pairwise(states):
            for name in names:
                expected = 0.15 * before[f"ema.{name}"] + 0.85 * after[f"weights.{name}"]
                assert torch.allclose(after[f"ema.{name}"], expected, rtol=1e-6, atol=1e-6)
    assert all(torch.allclose(initial[0][name], initial[1][name], rtol=1e-5, atol=1e-4) for name in initial[0])
    assert not torch.equal(states[0]["weights.network.conv_in.weight"], states[1]["weights.network.conv_in.weight"])


def test_without_decay_the_average_is_the_network(run, tmp_path):
    run(tmp_path, epochs=1, ema_decay=0.0)
    weights, averaged = weights_of(tmp_path), ema_of(tmp_path)
    assert averaged.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in averaged.items())


# --- learned schedules ---

LEARNED = {"process": {"schedule": "learned"}, "loss": "bound"}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_learned_schedule_is_trained_together_with_the_network(run, process, tmp_path, prediction):
    """With steps far too large for the network, and still it falls everywhere."""
    changes = LEARNED | {"process": {"schedule": "learned", "prediction": prediction}}
    history = run(tmp_path, epochs=4, learning_rate=0.05, ema_decay=0.5, **changes)
    start = LearnedSchedule(schedule_from_parameters(process))
    bars = []
    for prefix in ("weights.", "ema."):
        found = LearnedSchedule(schedule_from_parameters(process))
        found.load_state_dict(weights_of(tmp_path, f"{prefix}schedule."))
        for name, value in found.state_dict().items():
            assert not torch.equal(value, start.state_dict()[name]), name
        with torch.no_grad():
            bars.append(found().alpha_bars)
        assert (bars[-1].diff() < 0).all()
        assert bars[-1][0] < 1
        assert bars[-1][-1] > 0
    assert not torch.equal(*bars)
    told = history[["alpha_bar_first", "alpha_bar_last"]].to_numpy()
    assert told[-1].tolist() == pytest.approx([bars[1][0].item(), bars[1][-1].item()], rel=1e-12)
    assert (told[:, 0] > told[:, 1]).all()
    assert (np.diff(told, axis=0) != 0).all()


def test_only_a_learned_schedule_is_in_the_history(run, tmp_path):
    assert not [name for name in run(tmp_path, epochs=1, loss="bound") if name.startswith("alpha")]


def test_weight_decay_does_not_draw_a_schedule_to_zero(run, one_step, tmp_path):
    schedules = []
    for decay in (0.0, 0.5):
        folder = tmp_path / str(decay)
        after_one_step(run, one_step, folder, optimizer="adamw", weight_decay=decay, **LEARNED)
        schedules.append(weights_of(folder, "weights.schedule."))
    assert all(torch.equal(value, schedules[1][name]) for name, value in schedules[0].items())
    assert not same_weights(tmp_path / "0.0", tmp_path / "0.5")


# --- learning rate ---


@pytest.fixture
def rates(run, data, tmp_path):
    """The learning rate of every step: with one step an epoch, every one has its row."""

    def rates_of(steps, **changes):
        one_step = data._replace(train_rows=data.train_rows[:2], val_rows=data.val_rows[:2])
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


def test_learning_rate_falls_within_an_epoch_too(run, tmp_path):
    history = run(tmp_path, epochs=2, warmup_steps=0, decay_epochs=4)
    expected = [0.0015 * (1 + math.cos(math.pi * (step - 1) / (4 * STEPS))) for step in history.step]
    assert history.learning_rate.tolist() == pytest.approx(expected)


# --- data ---


def test_only_training_rows_reach_the_weights(run, data, tmp_path):
    run(tmp_path / "one", epochs=1, quality_epochs=1)
    generator = np.random.default_rng(1)
    cells, labels = generator.integers(0, 256, data.cells.shape).astype(np.uint8), 1 - data.labels
    watched = np.concatenate([data.train_rows, data.val_rows])
    for folder, kept in (("others", watched), ("all but train", data.train_rows), ("nothing", watched[:0])):
        scrambled = data._replace(cells=cells.copy(), labels=labels.copy())
        scrambled.cells[kept], scrambled.labels[kept] = data.cells[kept], data.labels[kept]
        run(tmp_path / folder, data=scrambled, epochs=1, quality_epochs=1)
    assert differences(tmp_path / "one", tmp_path / "others") == set()
    # validation loss and kernel distance, and nothing else
    assert differences(tmp_path / "one", tmp_path / "all but train") == {"history", "best"}
    assert not same_weights(tmp_path / "one", tmp_path / "nothing")


def test_training_and_watching_ask_for_their_own_rows_only(run, data, tmp_path):
    cells = data.cells.view(Noting)
    run(tmp_path, data=data._replace(cells=cells), quality_epochs=1)
    asked = set(np.concatenate(cells.asked).tolist())
    assert asked == set(data.train_rows) | set(data.val_rows)


# --- history ---


def test_history_tells_each_row_once(run, tmp_path):
    history = run(tmp_path)
    assert history.step.tolist() == [3, 6, 8, 9, 12, 15, 16]
    assert history.epoch.tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert (history.images_seen == 4 * history.step).all()
    assert history.val_loss.notna().tolist() == [False, False, True, False, False, False, True]
    assert np.isfinite(history.loss).all()


@pytest.mark.parametrize("quality_epochs", [1, 2])
def test_columns_of_the_history_are_numbers_whether_anything_was_measured_or_not(run, tmp_path, quality_epochs):
    reports = []
    reports.append(run(tmp_path, reports.append, quality_epochs=quality_epochs))
    for table in [report.history for report in reports[:-1]] + reports[-1:]:
        assert {str(kind) for kind in table.dtypes} <= {"int64", "float64"}


def test_loss_is_the_mean_since_the_last_row(run, data, tmp_path, monkeypatch):
    often = run(tmp_path / "often", epochs=1)
    monkeypatch.setattr(training, "LOG_STEPS", 1)
    each = run(tmp_path / "each", epochs=1)
    assert len(each) == STEPS
    expected = [each.loss[:3].mean(), each.loss[3:6].mean(), each.loss[6:].mean()]
    assert often.loss.tolist() == pytest.approx(expected, rel=1e-6)
    assert differences(tmp_path / "often", tmp_path / "each") == {"history"}


def test_validation_loss_is_that_of_the_averaged_weights(run, data, process, network_parameters, tmp_path):
    history = run(tmp_path)
    network = build_network(network_parameters, 8, 2).eval()
    network.load_state_dict(ema_of(tmp_path))
    rows = keyed_generator(0, Purpose.ORDER, 2**62).permutation(data.val_rows)
    draw = draw_samples(0, Purpose.VALIDATION, range(len(rows)), process.timesteps, (3, 8, 8))
    diffusion = GaussianDiffusion.from_parameters(process)
    x_0 = torch.from_numpy(data.cells[rows].astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        x_t = diffusion.q_sample(x_0, draw.t, draw.epsilon)
        output = network(x_t, draw.t, class_labels=torch.from_numpy(data.labels[rows])).sample
    expected = (output - diffusion.target(x_0, draw.t, draw.epsilon)).square().mean().item()
    assert history.val_loss.iloc[-1] == pytest.approx(expected, rel=1e-5)


def test_seconds_are_those_of_the_steps_alone(run, tmp_path):
    start = time.perf_counter()
    run(tmp_path, on_epoch=lambda report: time.sleep(0.5))
    passed = time.perf_counter() - start
    told = seconds_per_image(tmp_path) * 2 * STEPS * 4
    assert 0 < told < passed - 1
    before = load_progress(tmp_path / CHECKPOINT)["seconds"]
    run(tmp_path, epochs=3)
    assert load_progress(tmp_path / CHECKPOINT)["seconds"] > before  # an interruption does not start it anew


# --- who is told ---


def test_a_watcher_is_called_once_an_epoch_with_the_whole_history(run, tmp_path):
    reports = []
    history = run(tmp_path, reports.append, epochs=3, quality_epochs=1)
    assert [report.epoch for report in reports] == [1, 2, 3]
    for report in reports:
        same_table(report.history, history[history.step <= STEPS * report.epoch])
        assert report.images.shape == (8, 3, 8, 8)
        assert report.images.dtype == np.uint8
        assert report.labels.tolist() == [0] * 4 + [1] * 4
        assert report.images_per_second is None or report.images_per_second > 0


def test_a_continued_training_reports_its_new_epochs_with_the_whole_history(run, tmp_path):
    run(tmp_path, epochs=1)
    reports = []
    run(tmp_path, reports.append, epochs=3)
    assert [report.epoch for report in reports] == [2, 3]
    assert [report.history.step.max() for report in reports] == [2 * STEPS, 3 * STEPS]
    assert all(report.history.step.min() == 3 for report in reports)


def test_epochs_done_counts_whole_epochs(run, tmp_path):
    assert epochs_done(tmp_path) == 0
    run(tmp_path)
    assert epochs_done(tmp_path) == 2


def test_best_weights_that_were_never_chosen_are_an_error(run, tmp_path):
    run(tmp_path, epochs=1)
    with pytest.raises(UserError, match=r"best\.safetensors: not there.*its first look.*quality_epochs"):
        load_best_weights(tmp_path)


# --- several averages ---


def test_averages_are_kept_side_by_side_and_the_nearest_is_kept_as_best(run, tmp_path):
    changes = {"epochs": 3, "quality_epochs": 1, "learning_rate": 0.01}
    decays = [0.95, 0.0, 0.7]
    history = run(tmp_path / "several", ema_decay=decays, **changes)
    looks = history.dropna(subset=["kernel_distance"])
    alone = {}
    for decay in decays:
        of_one = run(tmp_path / str(decay), ema_decay=decay, **changes)
        assert "ema_decay" not in of_one
        alone[decay] = of_one.dropna(subset=["kernel_distance"])["kernel_distance"].to_numpy()
    nearest = [min(decays, key=lambda decay: alone[decay][look]) for look in range(3)]
    assert looks["ema_decay"].tolist() == nearest
    assert looks["kernel_distance"].tolist() == [alone[decay][look] for look, decay in enumerate(nearest)]
    assert len(set(nearest)) > 1  # or the test would not tell them apart
    best = load_best_weights(tmp_path / "several")
    assert (best.ema_decay, best.kernel_distance) == (nearest[best.epoch - 1], looks["kernel_distance"].min())
    # the first is as of a training with that one alone
    first, only = (weights_of(tmp_path / folder, "ema.network.") for folder in ("several", "0.95"))
    assert first.keys() == only.keys()
    assert all(torch.equal(first[name], only[name]) for name in only)
    assert load_best_weights(tmp_path / "0.95").ema_decay is None


# --- weights to guide by ---


def test_weights_to_guide_by_are_those_of_a_training_that_short(run, tmp_path):
    run(tmp_path / "short", epochs=1, decay_epochs=None, quality_epochs=1)
    run(tmp_path / "long", epochs=3, decay_epochs=None, quality_epochs=1, guide_epochs=1)
    short, kept = weights_of(tmp_path / "short", "ema."), load_guide_weights(tmp_path / "long", 1)
    assert short.keys() == kept.keys()
    assert all(torch.equal(short[name], kept[name]) for name in short)
    finished = weights_of(tmp_path / "long", "ema.")
    assert any(not torch.equal(kept[name], finished[name]) for name in kept)


def test_weights_to_guide_by_are_kept_by_a_training_that_goes_on(run, tmp_path):
    run(tmp_path, epochs=1, decay_epochs=None, quality_epochs=1)
    run(tmp_path, epochs=3, decay_epochs=None, quality_epochs=1, guide_epochs=2)
    load_guide_weights(tmp_path, 2)
    kept = (tmp_path / GUIDE).read_bytes()
    run(tmp_path, epochs=3, decay_epochs=None, quality_epochs=1, guide_epochs=2)
    assert (tmp_path / GUIDE).read_bytes() == kept


@pytest.mark.parametrize(("kept", "asked"), [(None, 1), (1, 2)])
def test_weights_to_guide_by_that_were_not_kept_are_an_error_before_training(run, tmp_path, kept, asked):
    changes = {"decay_epochs": None, "quality_epochs": 1}
    run(tmp_path, epochs=2, guide_epochs=kept, **changes)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(TrainingError, match=rf"guide\.safetensors: .*of epoch {asked}, are not there.*guide_epochs"):
        run(tmp_path, epochs=3, guide_epochs=asked, **changes)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    run(tmp_path, epochs=3, guide_epochs=kept, **changes)


def test_weights_to_guide_by_that_nobody_asked_for_are_not_there(run, tmp_path):
    run(tmp_path)
    with pytest.raises(UserError, match=r"guide\.safetensors: .*epoch 1, are not there, found nothing: .*guide_epochs"):
        load_guide_weights(tmp_path, 1)


def test_weights_to_guide_by_are_never_taken_for_those_of_another_epoch(run, tmp_path):
    run(tmp_path, epochs=2, decay_epochs=None, quality_epochs=1, guide_epochs=1)
    with pytest.raises(TrainingError, match="of epoch 2, are not there, found those of epoch 1"):
        load_guide_weights(tmp_path, 2)


# --- identity ---

OTHER_PROCESS = {
    "timesteps": 21,
    "schedule": "cosine",
    "beta_start": 0.002,
    "beta_end": 0.4,
    "prediction": "epsilon",
}
OTHER_NETWORK = {
    "patch_size": 2,
    "channels": [8, 8],
    "layers_per_block": 2,
    "attention_sides": [],
    "attention_head_channels": 4,
    "scale_shift": True,
    "norm_groups": 2,
    "dropout": 0.1,
}
OTHER_TRAINING = {
    "batch_size": 8,
    "loss": "bound",
    "label_dropout": 0.1,
    "timestep_draw": "stratified",
    "log_snr_deviation": 2.0,
    "optimizer": "adamw",
    "learning_rate": 0.1,
    "weight_decay": 0.1,
    "warmup_steps": 4,
    "decay_epochs": 5,
    "gradient_clip": None,
    "ema_decay": 0.5,
    "flips": False,
    "quarter_turns": True,
    "precision": "bfloat16",
    "compile": True,
    "seed": 1,
    "quality_epochs": 2,
    "quality_images": 9,
}
NOT_ANOTHER = {"epochs": 3, "device": "auto", "accumulation": 2, "guide_epochs": 1}


@pytest.fixture
def settings(process, network_parameters, parameters):
    def settings_with(fingerprint="cells", size=8, num_classes=2, **changes):
        good = {"process": process, "network": network_parameters, "training": parameters}
        changed = [type(value)(**value.model_dump() | changes.get(part, {})) for part, value in good.items()]
        return training_settings(fingerprint, size, num_classes, *changed)

    return settings_with


def test_identity_changes_with_everything_that_matters(settings):
    alternatives = {"process": OTHER_PROCESS, "network": OTHER_NETWORK, "training": OTHER_TRAINING}
    classes = {"process": ProcessParameters, "network": NetworkParameters, "training": TrainingParameters}
    found = {"as it was": settings()}
    for key, value in {"fingerprint": "others", "size": 16, "num_classes": 3}.items():
        found[key] = settings(**{key: value})
    for part, others in alternatives.items():
        assert set(others) == set(classes[part].model_fields) - (set(NOT_ANOTHER) if part == "training" else set())
        found |= {f"{part}.{key}": settings(**{part: {key: value}}) for key, value in others.items()}
    names = {name: training_identity(value) for name, value in found.items()}
    assert len(set(names.values())) == len(names) == 1 + 3 + 5 + 8 + 19, names


def test_identity_of_what_was_trained_before_there_were_more_parameters(settings):
    """As version 0.2.0 named this training, whose parameters had no others."""
    assert training_identity(settings()) == "016ae661ef91396b"


@pytest.mark.parametrize("key", NOT_ANOTHER)
def test_identity_does_not_change_with_length_place_and_pieces(settings, key):
    assert settings(training={key: NOT_ANOTHER[key]}) == settings()


def test_identity_knows_the_precision_that_was_found_not_the_one_asked_for(settings, monkeypatch):
    for found in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(training, "resolve_precision", lambda name, device, found=found: found)
        assert settings(training={"precision": "auto"})["training"]["precision"] == str(found)


def test_settings_survive_writing_them_down(settings):
    assert json.loads(json.dumps(settings())) == settings()
