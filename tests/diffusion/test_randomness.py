"""Randomness by key."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from malaria_diffusion.compute.randomness import Draw, Purpose, draw_samples, keyed_generator

# fixed seeds make these tests deterministic; the level only says how unlucky a right implementation may be
LEVEL = 1e-4
SHAPE = (3, 4, 4)


def test_same_key_same_numbers():
    one, other = (keyed_generator(3, Purpose.SAMPLE, 7).standard_normal(100) for _ in range(2))
    assert np.array_equal(one, other)


def test_any_other_key_other_numbers():
    keys = list(itertools.product([0, 1, 2**32, 2**63 - 1], Purpose, [0, 1, 2**32, 2**62]))
    drawn = {key: tuple(keyed_generator(*key).integers(2**63, size=2)) for key in keys}
    assert len(set(drawn.values())) == len(keys) == 4 * len(Purpose) * 4


def test_streams_of_neighbouring_indices_do_not_overlap():
    long = keyed_generator(0, Purpose.SAMPLE, 0).random(100_000)
    assert len(np.unique(long)) == len(long)
    for index in (1, 2, 100):
        assert not np.isin(keyed_generator(0, Purpose.SAMPLE, index).random(1000), long).any()


def test_streams_of_neighbouring_keys_are_uncorrelated():
    firsts = [
        [keyed_generator(seed, Purpose.IMAGE, index).standard_normal() for index in range(500)] for seed in (0, 1)
    ]
    assert stats.pearsonr(*firsts).pvalue > LEVEL
    assert stats.pearsonr(firsts[0][:-1], firsts[0][1:]).pvalue > LEVEL


def test_draws_of_a_sample_do_not_depend_on_its_batch():
    together = draw_samples(0, Purpose.SAMPLE, range(10, 20), 1000, SHAPE)
    alone = [draw_samples(0, Purpose.SAMPLE, [index], 1000, SHAPE) for index in range(10, 20)]
    shuffled = draw_samples(0, Purpose.SAMPLE, list(reversed(range(10, 20))), 1000, SHAPE)
    for field in Draw._fields:
        assert torch.equal(getattr(together, field), torch.cat([getattr(draw, field) for draw in alone]))
        assert torch.equal(getattr(together, field), getattr(shuffled, field).flip(0))


@pytest.mark.parametrize("change", ["seed", "purpose", "index"])
def test_draws_change_with_each_part_of_the_key(change):
    before = draw_samples(0, Purpose.SAMPLE, range(16), 1000, SHAPE)
    after = draw_samples(
        int(change == "seed"),
        Purpose.VALIDATION if change == "purpose" else Purpose.SAMPLE,
        range(16, 32) if change == "index" else range(16),
        1000,
        SHAPE,
    )
    assert not torch.isin(before.epsilon, after.epsilon).any()
    assert not torch.equal(before.t, after.t)
    assert not torch.equal(before.flips, after.flips)
    assert not torch.isin(before.drops, after.drops).any()


def test_draws_have_the_promised_types():
    draw = draw_samples(0, Purpose.SAMPLE, range(5), 10, SHAPE)
    assert [part.dtype for part in draw] == [torch.int64, torch.float32, torch.bool, torch.bool, torch.float64]
    assert [tuple(part.shape) for part in draw] == [(5,), (5, *SHAPE), (5, 2), (5,), (5,)]


def test_a_draw_of_nothing_is_empty():
    assert [tuple(part.shape) for part in draw_samples(0, Purpose.SAMPLE, [], 10, SHAPE)] == [
        (0,),
        (0, *SHAPE),
        (0, 2),
        (0,),
        (0,),
    ]


def test_distributions_of_the_draws():
    draw = draw_samples(0, Purpose.SAMPLE, range(4000), 10, SHAPE)
    counts = torch.bincount(draw.t)
    assert len(counts) == 10  # every step and no other
    assert stats.chisquare(counts.numpy()).pvalue > LEVEL
    assert stats.kstest(draw.epsilon.numpy().ravel(), "norm").pvalue > LEVEL
    combinations = torch.bincount(draw.flips[:, 0] * 2 + draw.flips[:, 1], minlength=4)
    assert stats.chisquare(combinations.numpy()).pvalue > LEVEL
    assert stats.kstest(draw.drops.numpy(), "uniform").pvalue > LEVEL


def test_flips_and_drops_are_independent():
    draw = draw_samples(0, Purpose.SAMPLE, range(4000), 10, (1,))
    for flips in draw.flips.T:
        assert stats.ks_2samp(draw.drops[flips].numpy(), draw.drops[~flips].numpy()).pvalue > LEVEL
    assert stats.pearsonr(draw.t.numpy(), draw.drops.numpy()).pvalue > LEVEL


def test_noise_is_independent_of_the_timestep():
    draw = draw_samples(0, Purpose.SAMPLE, range(4000), 1000, SHAPE)
    assert stats.pearsonr(draw.t.numpy(), draw.epsilon[:, 0, 0, 0].numpy()).pvalue > LEVEL
    early = draw.t < 500
    assert stats.ks_2samp(draw.epsilon[early].numpy().ravel(), draw.epsilon[~early].numpy().ravel()).pvalue > LEVEL


def test_seeds_a_user_may_set_never_collide(parameters, sampling_parameters):
    """A seed too large for a key is refused by the parameters, not rounded to another."""
    for settings in (parameters, sampling_parameters):
        drawn = set()
        accepted = 0
        for seed in (0, 2**63 - 2, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1, 2**64):
            try:
                checked = type(settings)(**settings.model_dump() | {"seed": seed})
            except ValueError as error:
                assert "seed" in str(error)
            else:
                accepted += 1
                drawn.add(keyed_generator(checked.seed, Purpose.IMAGE, 0).random())
        assert len(drawn) == accepted >= 3
