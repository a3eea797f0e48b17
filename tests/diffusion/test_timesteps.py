"""Which timesteps training samples are shown at."""

import numpy as np
import pytest
from scipy import stats

from malaria_diffusion.diffusion.process.schedule import cosine_schedule, linear_schedule
from malaria_diffusion.diffusion.training.timesteps import TimestepDraw, stratified

LEVEL = 1e-4
SCHEDULES = {"linear": linear_schedule(1000, 1e-4, 0.02), "cosine": cosine_schedule(1000)}


def log_snr(name):
    return SCHEDULES[name].alpha_bars.logit().numpy()


def test_without_a_deviation_every_step_is_as_likely():
    draw = TimestepDraw(log_snr("linear"))
    assert np.array_equal(draw((np.arange(4000) + 0.5) / 4000), np.repeat(np.arange(1000), 4))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("deviation", [0.5, 2.4, 10.0, None])
def test_steps_come_as_often_as_they_are_likely(schedule, deviation):
    draw = TimestepDraw(log_snr(schedule), deviation)
    assert draw.probabilities.sum() == pytest.approx(1)
    assert draw.probabilities.min() > 0.0999 / 1000  # none is left out
    evenly = (np.arange(200_000) + 0.5) / 200_000
    counts = np.bincount(draw(evenly), minlength=1000)
    assert np.abs(counts - 200_000 * draw.probabilities).max() <= 1 + 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_log_snr_is_normal_around_zero_but_for_a_tenth(schedule):
    of_step = log_snr(schedule)
    probabilities = TimestepDraw(of_step, 1.5).probabilities
    normal = (probabilities - 0.1 / 1000) / 0.9
    for edge in (-3.0, -1.0, 0.0, 1.5, 4.0):
        assert normal[of_step < edge].sum() == pytest.approx(stats.norm.cdf(edge / 1.5), abs=0.01)


@pytest.mark.parametrize("ends", [0.0, 1 - 2**-53])
def test_ends_of_the_unit_interval_are_the_first_and_the_last_step(ends):
    for deviation in (None, 2.4):
        assert TimestepDraw(log_snr("linear"), deviation)(np.array([ends])) == (0 if ends == 0 else 999)


def test_stratified_numbers_depend_on_seed_and_sample_alone():
    together = stratified(3, range(100, 120))
    assert np.array_equal(together, [stratified(3, [index])[0] for index in range(100, 120)])
    assert np.array_equal(together[5:9], stratified(3, range(105, 109)))
    assert not np.isin(together, stratified(4, range(100, 120))).any()


@pytest.mark.parametrize("first", [0, 12_345, 2**40, 2**62])
@pytest.mark.parametrize("count", [8, 16, 100])
def test_any_run_of_stratified_numbers_is_more_even_than_independent_ones(first, count):
    numbers = np.sort(stratified(0, range(first, first + count)))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    gaps = np.diff(np.r_[numbers, numbers[0] + 1])
    # of golden rotations no gap exceeds the smallest 2.618 times; of independent numbers by far
    assert gaps.max() < 2.7 * gaps.min()
    assert gaps.max() < 2 / count


def test_a_stratified_number_is_uniform_over_seeds_and_samples():
    over_seeds = np.array([stratified(seed, [17])[0] for seed in range(2000)])
    assert stats.kstest(over_seeds, "uniform").pvalue > LEVEL
    assert np.abs(np.mean(stratified(0, range(10_000))) - 0.5) < 1e-3


def test_the_mean_of_a_function_of_the_timestep_varies_less():
    """That is what it is for: losses differ by orders of magnitude between timesteps."""
    draw, function = TimestepDraw(log_snr("linear"), 2.4), 1 / (1 + np.exp(log_snr("linear")))
    even = [function[draw(stratified(0, range(16 * step, 16 * step + 16)))].mean() for step in range(500)]
    rng = np.random.default_rng(0)
    independent = [function[draw(rng.random(16))].mean() for _ in range(500)]
    assert np.std(even) < 0.3 * np.std(independent)
    assert np.mean(even) == pytest.approx(np.sum(draw.probabilities * function), rel=0.01)
