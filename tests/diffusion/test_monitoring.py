"""What is looked at while training: validation loss, generated images, and which weights are the best."""

import numpy as np
import pytest
import torch

from malaria_diffusion.diffusion.config import Loss, ScheduleKind
from malaria_diffusion.diffusion.training import monitoring as watch
from malaria_diffusion.diffusion.training import trainer as training
from malaria_diffusion.diffusion.training.checkpoint import save_checkpoint, select
from malaria_diffusion.diffusion.training.monitoring import Watch
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.quality import QualityMeasure
from malaria_diffusion.diffusion.training.trainer import BEST, CHECKPOINT, load_best_weights
from malaria_diffusion.errors import UserError

from .trainings import Noting, differences, same_table, weights_of

UNEQUAL = np.array([32, 33, 34, 35, 36, 38, 40, 42])  # six dark and two bright


@pytest.fixture
def objective(process, network_parameters, parameters):
    def build(label_dropout=0.0, **changes):
        torch.manual_seed(0)
        settings = parameters.model_copy(update={"label_dropout": label_dropout, "loss": Loss.BOUND})
        return Objective(process.model_copy(update=changes), network_parameters, settings, 8, 2, torch.float32).eval()

    return build


@pytest.fixture
def usual():
    """The cells that say what is usual, as soon as they are asked for."""
    return []


@pytest.fixture
def reference(monkeypatch, usual):
    """What the images are compared with, as soon as they are."""
    given = []

    class Telling(QualityMeasure):
        def __init__(self, reference, typical):
            given.append(reference)
            usual.append(typical)
            super().__init__(reference, typical)

    monkeypatch.setattr(watch, "QualityMeasure", Telling)
    return given


@pytest.fixture
def distances(monkeypatch):
    """Decide what is measured."""

    def decide(values):
        values = iter(values)
        monkeypatch.setattr(QualityMeasure, "distance", lambda self, images: next(values))

    return decide


def rows_of(data, images):
    return [int(np.flatnonzero((data.cells == image).all(axis=(1, 2, 3)))[0]) for image in images]


# --- which epochs, and which of them is the best ---


@pytest.mark.parametrize(
    ("measured", "best"),
    [([3.0, 1.0, 2.0], 2), ([1.0, 2.0, 3.0], 1), ([3.0, 2.0, -1.0], 3), ([2.0, 1.0, 1.0], 2), ([0.0, 0.0, -0.0], 1)],
)
def test_the_smallest_distance_is_the_best_and_of_equals_the_first(
    run, one_step, tmp_path, monkeypatch, distances, measured, best
):
    averaged = {}

    def keep(path, tensors, progress):
        if path.name == CHECKPOINT:
            copies = {name: tensor.clone() for name, tensor in select(tensors, "ema.").items()}
            averaged[progress["epochs_done"]] = copies
        save_checkpoint(path, tensors, progress)

    monkeypatch.setattr(training, "save_checkpoint", keep)
    distances(measured)
    history = run(tmp_path, data=one_step, epochs=3, quality_epochs=1)
    assert history.kernel_distance.dropna().tolist() == measured
    found = load_best_weights(tmp_path)
    assert (found.epoch, found.kernel_distance) == (best, measured[best - 1])
    assert found.weights.keys() == averaged[best].keys()
    for epoch, weights in averaged.items():
        assert all(torch.equal(found.weights[name], weights[name]) for name in weights) == (epoch == best)


def test_the_best_is_remembered_over_a_continuation(run, one_step, tmp_path, distances):
    best = []
    for epochs, measured in ((1, [2.0]), (2, [3.0]), (3, [2.5]), (5, [1.0, 2.0])):
        distances(measured)
        run(tmp_path, data=one_step, epochs=epochs, quality_epochs=1)
        best.append(load_best_weights(tmp_path).epoch)
    assert best == [1, 1, 1, 4]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_looks_fall_at_multiples_of_their_distance(run, one_step, tmp_path, every):
    reports = []
    history = run(tmp_path, reports.append, data=one_step, epochs=5, quality_epochs=every)
    expected = [epoch for epoch in range(1, 6) if epoch % every == 0]
    assert [report.epoch for report in reports if report.images is not None] == expected
    assert history.epoch[history.kernel_distance.notna()].tolist() == expected
    assert load_best_weights(tmp_path).epoch in expected


def test_stopping_and_continuing_changes_no_look(run, one_step, tmp_path):
    looks = {}
    for folder, stops in (("whole", [5]), ("parts", [3, 4, 5])):
        reports = []
        for epochs in stops:
            history = run(tmp_path / folder, reports.append, data=one_step, epochs=epochs, quality_epochs=2)
        looks[folder] = history, [report.images for report in reports]
    (history, images), (history_, images_) = looks.values()
    same_table(history, history_)
    assert [look is None for look in images] == [True, False, True, False, True]
    for one, other in zip(images, images_, strict=True):
        assert np.array_equal(one, other)
    assert differences(tmp_path / "whole", tmp_path / "parts") == set()


def test_looking_changes_no_weight(run, tmp_path):
    for every, images in ((1, 8), (2, 8), (1, 3)):
        folder = tmp_path / f"{every} {images}"
        run(folder, network={"dropout": 0.3}, quality_epochs=every, quality_images=images)
    often, seldom, few = (
        weights_of(tmp_path / folder, "ema.") | weights_of(tmp_path / folder) for folder in ("1 8", "2 8", "1 3")
    )
    for name, weight in often.items():
        assert torch.equal(weight, seldom[name])
        assert torch.equal(weight, few[name])


def test_looks_are_those_of_the_averaged_weights(run, one_step, process, network_parameters, parameters, tmp_path):
    reports = []
    history = run(tmp_path, reports.append, data=one_step, epochs=3, quality_epochs=3, learning_rate=0.03)
    averaged = Objective(process, network_parameters, parameters, 8, 2, torch.float32)
    averaged.load_state_dict(weights_of(tmp_path, "ema."))
    watch = Watch(one_step, parameters, 20)
    images, distance = watch.look(averaged)
    assert np.array_equal(reports[-1].images, images)
    assert history.kernel_distance.iloc[-1] == distance
    assert history.recall.iloc[-1] == watch.measure.recall(images)
    assert history.recall.isna().tolist() == history.kernel_distance.isna().tolist()
    assert watch.recall(images[:7]) == watch.measure.recall(images[:7])
    assert watch.recall(images[:6]) is None
    averaged.load_state_dict(weights_of(tmp_path, "weights."))
    assert not np.array_equal(Watch(one_step, parameters, 20).look(averaged)[0], images)


def test_best_weights_hold_a_learned_schedule_too(run, tmp_path):
    run(tmp_path, epochs=1, process={"schedule": "learned"}, loss="bound", quality_epochs=1)
    weights = load_best_weights(tmp_path).weights
    averaged = weights_of(tmp_path, "ema.")
    assert {"schedule.first", "schedule.log_range", "schedule.logits"} < weights.keys() == averaged.keys()
    assert all(torch.equal(weights[name], averaged[name]) for name in averaged)
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, BEST}


# --- what is looked at ---


@pytest.mark.parametrize(("count", "expected"), [(8, [4, 4]), (7, [4, 3]), (2, [1, 1])])
def test_as_many_images_of_each_class_are_generated_class_after_class(
    data, parameters, objective, reference, count, expected
):
    watched = Watch(data, parameters.model_copy(update={"quality_images": count}), 20)
    asked = []
    built = objective(label_dropout=0.5)
    built.network.register_forward_pre_hook(
        lambda _, __, kwargs: asked.append(kwargs["class_labels"].tolist()), with_kwargs=True
    )
    images, distance = watched.look(built)
    assert images.shape == (count, 3, 8, 8)
    assert images.dtype == np.uint8
    assert np.isfinite(distance)
    labels = [0] * expected[0] + [1] * expected[1]
    assert watched.sampled_labels.tolist() == labels
    assert asked == [labels] * 20  # and never the class that stands for none


def test_images_are_compared_with_validation_cells_of_all_classes_in_equal_numbers(
    data, parameters, objective, reference
):
    Watch(data._replace(val_rows=UNEQUAL), parameters, 20).look(objective())
    (given,) = reference
    rows = rows_of(data, given)
    assert len(set(rows)) == len(rows) == 4
    assert set(rows) <= set(UNEQUAL)
    assert np.bincount(data.labels[rows]).tolist() == [2, 2]


def test_training_cells_of_all_classes_in_equal_numbers_say_what_is_usual(
    data, parameters, objective, reference, usual
):
    Watch(data, parameters, 20).look(objective())
    (given,) = usual
    rows = rows_of(data, given)
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(data.train_rows)
    counts = np.bincount(data.labels[rows])
    assert counts.tolist() == [np.bincount(data.labels[data.train_rows]).min()] * 2


def test_no_more_cells_are_compared_than_are_needed(data, parameters, objective, reference, usual, monkeypatch):
    monkeypatch.setattr(watch, "REFERENCE_CELLS", 4)
    monkeypatch.setattr(watch, "TYPICAL_CELLS", 6)
    Watch(data, parameters, 20).look(objective())
    assert len(reference[0]) == 4
    assert len(usual[0]) == 6


def test_the_same_network_looks_the_same_at_every_look(data, parameters, objective):
    built = objective()
    first, again, other = Watch(data, parameters, 20), Watch(data, parameters, 20), objective()
    looks = [first.look(built), first.look(built), again.look(built)]
    for images, distance in looks[1:]:
        assert np.array_equal(images, looks[0][0])
        assert distance == looks[0][1]
    with torch.no_grad():
        other.network.conv_in.weight.mul_(3)
    assert not np.array_equal(first.look(other)[0], looks[0][0])


@pytest.mark.parametrize(("timesteps", "calls"), [(10, 10), (20, 20), (50, 20)])
def test_a_look_costs_twenty_evaluations_at_most(data, parameters, objective, timesteps, calls):
    built, called = objective(timesteps=timesteps), []
    built.network.register_forward_pre_hook(lambda *_: called.append(1))
    Watch(data, parameters, timesteps).look(built)
    assert len(called) == calls


def test_looks_and_losses_follow_a_schedule_as_learned(data, parameters, objective):
    watched, built = Watch(data, parameters, 20), objective(schedule=ScheduleKind.LEARNED)
    (before, _), loss = watched.look(built), watched.validation_loss(built)
    with torch.no_grad():
        built.schedule.first.add_(2)
    assert not np.array_equal(watched.look(built)[0], before)
    assert watched.validation_loss(built) != loss


# --- validation loss ---


def test_only_validation_cells_are_read(data, parameters, objective):
    cells = data.cells.view(Noting)
    watched = Watch(data._replace(cells=cells), parameters, 20)
    watched.validation_loss(objective())
    assert sorted(np.concatenate(cells.asked)) == data.val_rows.tolist()


def test_no_cell_is_looked_at_that_neither_trains_nor_validates(data, parameters, objective):
    cells, trained_on = data.cells.view(Noting), data.train_rows[::2]
    Watch(data._replace(cells=cells, train_rows=trained_on), parameters, 20).look(objective())
    assert set(np.concatenate(cells.asked)) == {*data.val_rows, *trained_on}


@pytest.mark.parametrize("size", [1, 3, 8])
def test_validation_loss_does_not_depend_on_how_it_is_divided(data, parameters, objective, monkeypatch, size):
    expected = Watch(data, parameters, 20).validation_loss(objective())
    monkeypatch.setattr(watch, "BATCH", size)
    assert Watch(data, parameters, 20).validation_loss(objective()) == pytest.approx(expected, rel=1e-5)


def test_validation_loss_is_of_some_cells_of_all_classes(data, parameters, objective, monkeypatch):
    """The first so many of a shuffled order: rows lie class by class, person by person."""
    sorted_rows = np.sort(data.val_rows)[np.argsort(data.labels[np.sort(data.val_rows)], kind="stable")]
    cells = data.cells.view(Noting)
    monkeypatch.setattr(watch, "LOSS_CELLS", 5)
    Watch(data._replace(cells=cells, val_rows=sorted_rows), parameters, 20).validation_loss(objective())
    (rows,) = cells.asked
    assert len(set(rows)) == 5
    assert set(data.labels[rows]) == {0, 1}


def test_validation_loss_neither_flips_nor_drops_labels(data, parameters, objective):
    built, asked = objective(label_dropout=0.9), []
    built.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0]))
    settings = parameters.model_copy(update={"label_dropout": 0.9, "flips": True})
    Watch(data, settings, 20).validation_loss(built)
    (batch,) = asked
    rows = rows_of(data, batch.images.numpy())
    assert sorted(rows) == data.val_rows.tolist()
    assert batch.labels.tolist() == data.labels[rows].tolist()


def test_validation_loss_has_its_own_draws_the_same_at_every_look(data, parameters, objective):
    watched = Watch(data, parameters, 20)
    built = objective()
    state = torch.random.get_rng_state()
    assert watched.validation_loss(built) == watched.validation_loss(built)
    assert torch.equal(torch.random.get_rng_state(), state)
    other_seed = Watch(data, parameters.model_copy(update={"seed": 1}), 20)
    assert other_seed.validation_loss(built) != watched.validation_loss(built)


@pytest.mark.parametrize("rows", [[32, 34, 36], [33, 35], []])
def test_a_class_without_validation_cells_is_an_error(run, data, tmp_path, rows):
    counts = np.bincount(data.labels[rows], minlength=2).tolist() if rows else [0, 0]
    with pytest.raises(UserError, match=rf"validation cells hold \[{counts[0]}, {counts[1]}\].*split\.val_fraction"):
        run(tmp_path, data=data._replace(val_rows=np.array(rows, dtype=np.int64)))
    assert list(tmp_path.iterdir()) == []
