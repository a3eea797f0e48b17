"""From the memory map to batches: which cells, in which order, with which draws."""

import itertools
import threading

import numpy as np
import pytest
import torch
from scipy import stats

from malaria_diffusion.compute.distributed import Processes
from malaria_diffusion.compute.randomness import Draw, Purpose, draw_samples
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.schedule import linear_schedule
from malaria_diffusion.diffusion.training import data as feed_module
from malaria_diffusion.diffusion.training.data import Batch, Feed, read_batch
from malaria_diffusion.diffusion.training.timesteps import TimestepDraw, stratified

from .trainings import STEPS, Noting

TIMESTEPS = 20
DIFFUSION = GaussianDiffusion(linear_schedule(TIMESTEPS, 0.001, 0.2))
CPU = torch.device("cpu")
ALONE = Processes(0, 1)


@pytest.fixture
def feeds(data, parameters):
    """Make feeds, and close them at the end."""
    made = []

    def make(processes=ALONE, data=data, **changes):
        made.append(Feed(data, parameters.model_copy(update=changes), DIFFUSION, processes, CPU))
        return made[-1]

    yield make
    for feed in made:
        feed.close()


def joined(parts):
    """Parts of a step as one batch."""
    return Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def rows_of(data, batch):
    """The rows that unflipped images are."""
    return [int(np.flatnonzero((data.cells == image).all(axis=(1, 2, 3)))[0]) for image in batch.images.numpy()]


# --- which cells and draws ---


def test_every_training_cell_comes_once_an_epoch_in_another_order_each_time(feeds, data):
    feed = feeds(flips=False)
    orders = [
        [row for step in range(epoch * STEPS, (epoch + 1) * STEPS) for row in rows_of(data, joined(feed.step(step)))]
        for epoch in range(3)
    ]
    for order in orders:
        assert sorted(order) == data.train_rows.tolist()
    assert len({tuple(order) for order in orders}) == 3
    other_seed = feeds(flips=False, seed=1)
    assert orders[0][:4] != rows_of(data, joined(other_seed.step(0)))


def test_cells_that_do_not_fill_a_batch_wait_for_another_epoch(feeds, data):
    feed = feeds(flips=False, batch_size=5)
    assert feed.steps_per_epoch == 6
    left_out = []
    for epoch in range(3):
        seen = [row for step in range(6) for row in rows_of(data, joined(feed.step(6 * epoch + step)))]
        assert len(set(seen)) == 30
        left_out.append(set(data.train_rows) - set(seen))
    assert len(set(map(frozenset, left_out))) > 1


def test_labels_belong_to_their_images(feeds, data):
    batch = joined(feeds(flips=False).step(3))
    assert batch.labels.tolist() == data.labels[rows_of(data, batch)].tolist()


@pytest.mark.parametrize("step", [0, 3, STEPS, 2 * STEPS + 1])
def test_draws_are_those_of_the_samples_running_numbers(feeds, step):
    batch = joined(feeds(label_dropout=0.5).step(step))
    draw = draw_samples(0, Purpose.SAMPLE, range(4 * step, 4 * step + 4), TIMESTEPS, (3, 8, 8))
    assert torch.equal(batch.t, draw.t)
    assert torch.equal(batch.epsilon, draw.epsilon)
    assert torch.equal(batch.labels == 2, draw.drops < 0.5)


@pytest.mark.parametrize("ahead", [0, 1, 5, 40])
def test_reading_ahead_changes_nothing(feeds, monkeypatch, ahead):
    expected = [joined(feed.step(step)) for feed in [feeds()] for step in range(2 * STEPS + 2)]
    monkeypatch.setattr(feed_module, "AHEAD", ahead)
    feed = feeds()
    assert all(same(joined(feed.step(step)), batch) for step, batch in enumerate(expected))


@pytest.mark.parametrize("start", [1, STEPS - 1, STEPS, 2 * STEPS + 3])
def test_starting_at_another_step_changes_nothing(feeds, start):
    expected = [joined(feed.step(step)) for feed in [feeds()] for step in range(start + 3)]
    feed = feeds()
    assert all(same(joined(feed.step(step)), expected[step]) for step in range(start, start + 3))


@pytest.mark.parametrize(("count", "accumulation"), [(1, 2), (1, 4), (2, 1), (2, 2), (4, 1)])
def test_processes_and_parts_divide_each_step_between_them(feeds, count, accumulation):
    whole = feeds(label_dropout=0.3)
    shares = [feeds(Processes(index, count), accumulation=accumulation, label_dropout=0.3) for index in range(count)]
    for step in range(STEPS + 2):
        batches = [feed.step(step) for feed in shares]
        assert all(len(parts) == accumulation for parts in batches)
        assert {len(part.t) for parts in batches for part in parts} == {4 // count // accumulation}
        assert same(joined([part for parts in batches for part in parts]), joined(whole.step(step)))


def test_each_process_reads_only_its_own_rows(feeds, data, monkeypatch):
    monkeypatch.setattr(feed_module, "AHEAD", 0)
    asked = []
    for index in range(2):
        cells = data.cells.copy().view(Noting)
        feed = feeds(Processes(index, 2), data._replace(cells=cells))
        for step in range(STEPS):
            feed.step(step)
        assert [len(rows) for rows in cells.asked] == [2] * STEPS
        asked.append(np.concatenate(cells.asked))
    assert sorted(np.concatenate(asked)) == data.train_rows.tolist()


def test_sample_numbers_tell_what_a_process_sees(feeds):
    shares = [feeds(Processes(index, 2)).samples(3) for index in range(2)]
    assert shares == [range(12, 14), range(14, 16)]


# --- what is made of them ---


def certain(count, flips=(False, False), drops=1.0, turned=False):
    """A draw with chosen symmetry and drops."""
    return Draw(
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, 3, 8, 8),
        torch.tensor([flips] * count),
        torch.tensor([turned] * count),
        torch.full((count,), drops, dtype=torch.float64),
    )


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("horizontal", [False, True])
def test_flips_are_those_of_the_draw(data, vertical, horizontal):
    rows = np.array([5, 40, 2])
    before = data.cells.copy()
    batch = read_batch(data, rows, certain(3, (vertical, horizontal)), flips=True)
    expected = data.cells[rows][:, :, :: -1 if vertical else 1, :: -1 if horizontal else 1]
    assert np.array_equal(batch.images.numpy(), expected)
    assert np.array_equal(data.cells, before)
    assert not np.array_equal(expected, data.cells[rows]) or not (vertical or horizontal)
    unflipped = read_batch(data, rows, certain(3, (vertical, horizontal)))
    assert np.array_equal(unflipped.images.numpy(), data.cells[rows])


def test_flips_and_turns_are_the_eight_symmetries_of_a_square(data):
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    data = data._replace(cells=np.broadcast_to(image, data.cells.shape))
    found = []
    for vertical, horizontal, turned in itertools.product([False, True], repeat=3):
        draw = certain(1, (vertical, horizontal), turned=turned)
        found.append(read_batch(data, np.array([5]), draw, flips=True, quarter_turns=True).images[0].numpy())
    expected = [np.rot90(mirrored, turns, (1, 2)) for mirrored in (image, image[:, :, ::-1]) for turns in range(4)]
    assert {one.tobytes() for one in found} == {np.ascontiguousarray(one).tobytes() for one in expected}
    assert len({one.tobytes() for one in found}) == 8
    unturned = read_batch(data, np.array([5]), certain(1, turned=True), flips=True)
    assert np.array_equal(unturned.images[0].numpy(), image)


def test_turns_are_half_of_all_and_independent_of_flips():
    draw = draw_samples(0, Purpose.SAMPLE, range(4000), TIMESTEPS, (3, 1, 1))
    eight = draw.turns * 4 + draw.flips[:, 0] * 2 + draw.flips[:, 1]
    assert stats.chisquare(torch.bincount(eight, minlength=8).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("deviation", [None, 1.0])
def test_stratified_timesteps_are_those_of_the_samples(feeds, deviation):
    feed = feeds(timestep_draw="stratified", log_snr_deviation=deviation)
    log_snr = DIFFUSION.schedule.alpha_bars.logit().numpy()
    expected = TimestepDraw(log_snr, deviation)(stratified(0, range(12, 16)))
    assert joined(feed.step(3)).t.tolist() == expected.tolist()
    shares = [feeds(Processes(index, 2), timestep_draw="stratified", log_snr_deviation=deviation) for index in range(2)]
    assert [t for share in shares for t in joined(share.step(3)).t.tolist()] == expected.tolist()


def test_timesteps_around_log_snr_zero_are_keyed_by_sample(feeds):
    feed, again = (feeds(log_snr_deviation=1.0) for _ in range(2))
    steps = [joined(feed.step(step)).t.tolist() for step in range(40)]
    assert joined(again.step(7)).t.tolist() == steps[7]
    probabilities = TimestepDraw(DIFFUSION.schedule.alpha_bars.logit().numpy(), 1.0).probabilities
    counts = np.bincount(np.ravel(steps), minlength=TIMESTEPS)
    assert stats.chisquare(counts, 160 * probabilities).pvalue > 1e-4


def test_new_ways_to_draw_leave_cells_and_noise_as_they_are(feeds):
    plain, other = feeds(), feeds(timestep_draw="stratified", log_snr_deviation=1.0)
    one, two = joined(plain.step(2)), joined(other.step(2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.epsilon, two.epsilon)
    assert not torch.equal(one.t, two.t)


def test_each_image_is_flipped_on_its_own(data):
    rows = np.arange(16)
    draw = draw_samples(0, Purpose.SAMPLE, range(16), TIMESTEPS, (3, 8, 8))
    assert len({tuple(flips) for flips in draw.flips.tolist()}) == 4
    together = read_batch(data, rows, draw, flips=True)
    for row in rows:
        alone = read_batch(data, rows[row : row + 1], Draw(*(part[row : row + 1] for part in draw)), flips=True)
        assert torch.equal(alone.images[0], together.images[row])


def test_flips_and_dropped_labels_leave_the_other_draws_alone(feeds):
    plain, other = joined(feeds(flips=False).step(0)), joined(feeds(flips=True, label_dropout=0.9).step(0))
    assert torch.equal(plain.t, other.t)
    assert torch.equal(plain.epsilon, other.epsilon)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_labels_asked_for_is_dropped(data, share):
    rows = np.arange(4000) % 32
    draw = draw_samples(0, Purpose.SAMPLE, range(4000), TIMESTEPS, (3, 1, 1))
    labels = read_batch(data, rows, draw, label_dropout=share).labels
    dropped = labels == data.num_classes
    deviation = (share * (1 - share) / 4000) ** 0.5
    assert abs(dropped.double().mean() - share) < 4 * deviation
    assert torch.equal(labels[~dropped], torch.from_numpy(data.labels[rows])[~dropped])


def test_a_label_dropped_at_one_share_is_dropped_at_any_larger_one(data):
    rows, draw = np.arange(48), draw_samples(0, Purpose.SAMPLE, range(48), TIMESTEPS, (3, 8, 8))
    few, many = (read_batch(data, rows, draw, label_dropout=share).labels == 2 for share in (0.2, 0.6))
    assert 0 < few.sum() < many.sum()
    assert not (few & ~many).any()


def test_without_label_dropout_no_label_is_dropped(data):
    """Not even one drawn at exactly zero."""
    labels = read_batch(data, np.arange(48), certain(48, drops=0.0), label_dropout=0.0).labels
    assert labels.tolist() == data.labels.tolist()


def test_images_become_numbers_from_minus_one_to_one(data):
    levels = np.arange(192, dtype=np.uint8).reshape(1, 3, 8, 8) + np.uint8(64)
    levels[0, 0, 0, 0] = 0
    batch = read_batch(data._replace(cells=levels), np.array([0]), certain(1))
    assert batch.images.dtype == torch.uint8
    x_0 = batch.x_0
    assert x_0.dtype == torch.float32
    assert torch.allclose(x_0, torch.from_numpy(levels.astype(np.float64) * 2 / 255 - 1).float(), rtol=0, atol=1e-7)
    assert (x_0.min(), x_0.max()) == (-1, 1)


def test_batches_have_the_promised_types_and_layout(feeds):
    batch = joined(feeds().step(0))
    assert [tensor.dtype for tensor in batch] == [torch.uint8, torch.int64, torch.int64, torch.float32]
    assert [tuple(tensor.shape) for tensor in batch] == [(4, 3, 8, 8), (4,), (4,), (4, 3, 8, 8)]
    assert batch.x_0.is_contiguous(memory_format=torch.channels_last)


def test_a_memory_map_is_read_like_an_array(feeds, data, tmp_path):
    np.save(tmp_path / "cells.npy", data.cells)
    mapped = feeds(data=data._replace(cells=np.load(tmp_path / "cells.npy", mmap_mode="r")))
    assert same(joined(mapped.step(0)), joined(feeds().step(0)))


# --- the thread ---


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed")]


def test_closing_stops_the_thread(feeds):
    before = threads()
    feed = feeds()
    feed.step(0)
    assert len(threads()) == len(before) + 1
    feed.close()
    assert threads() == before


def test_an_error_while_reading_arrives_where_the_step_is_asked_for(feeds, data):
    class Broken(np.ndarray):
        def __getitem__(self, rows):
            raise OSError("input/output error")

    feed = feeds(data=data._replace(cells=data.cells.view(Broken)))
    with pytest.raises(OSError, match="input/output error"):
        feed.step(0)


def test_the_torch_generator_is_not_touched(feeds):
    before = torch.random.get_rng_state()
    feeds().step(0)
    assert torch.equal(torch.random.get_rng_state(), before)
