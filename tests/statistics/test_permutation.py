"""Tests by image and by person: calibrated where the pixel-level test is not, powerful, equal to scipy's."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from malaria_diffusion.questions.distributions.measure import compare
from malaria_diffusion.statistics.permutation import (
    AT_ONCE,
    cramers_v,
    jensen_shannon,
    joined_bins,
    permutation_p,
    permuted_within,
    rank_p,
    resplit_people,
    statistics,
    with_q_values,
)

EDGES = np.linspace(-4, 4, 9)
PIXELS = 150


def images(rng, centres):
    """Histograms (N, 8) of 150 pixels each, standard normal about each image's centre."""
    shares = np.diff(stats.norm.cdf(EDGES - np.asarray(centres)[:, None]), axis=1)
    return rng.multinomial(PIXELS, shares / shares.sum(axis=1, keepdims=True))


def persons(rng, number, cells, shift=0.0):
    """Images whose people differ by 0.5 and whose images by 0.3 within a person."""
    centres = np.repeat(rng.normal(shift, 0.5, number), cells) + rng.normal(0, 0.3, number * cells)
    who = np.repeat([f"P{k:03d}" for k in range(number)], cells)
    return images(rng, centres), pd.DataFrame({"label": "ill", "person": who})


def within_binomial(count, trials, share):
    low, high = stats.binom.ppf([0.0005, 0.9995], trials, share)
    return low <= count <= high


def one_class(*sides):
    return [np.full(len(side), "ill") for side in sides]


def test_random_halves_are_rejected_by_pixels_but_not_by_images():
    """1,000 random halves of the same people's images, at 5 %: the pixel-level tests reject 600 of them."""
    rng = np.random.default_rng(0)
    cells, of = persons(rng, 10, 4)
    rejected = np.zeros(4)
    for _ in range(1000):
        half = rng.permutation(len(cells)) < len(cells) // 2
        first, second = cells[half], cells[~half]
        pixels = compare(first.sum(axis=0), second.sum(axis=0))
        by_image = permutation_p(first, of["label"][half], second, of["label"][~half], 99, rng)
        rejected += np.array([*by_image, pixels.chi2_p, pixels.g_p]) <= 0.05
    assert within_binomial(rejected[0], 1000, 0.05)
    assert within_binomial(rejected[1], 1000, 0.05)
    assert (rejected[2:] > 400).all()


def test_images_change_sides_within_their_class_only():
    """The classes differ and are mixed differently on the two sides: that alone is no difference."""
    rng = np.random.default_rng(1)
    labels = [np.repeat(["a", "b"], counts) for counts in ((20, 8), (6, 14))]
    rejected = np.zeros(2)
    for _ in range(400):
        sides = [images(rng, np.where(label == "a", -0.7, 0.7) + rng.normal(0, 0.3, len(label))) for label in labels]
        rejected += np.array(permutation_p(sides[0], labels[0], sides[1], labels[1], 99, rng)) <= 0.05
    assert within_binomial(rejected[0], 400, 0.05)
    assert within_binomial(rejected[1], 400, 0.05)


def test_a_shift_is_found():
    """40 against 30 images, shifted by one standard deviation of the images (0.3): found in 97 of 100 trials."""
    rng = np.random.default_rng(2)
    found = np.zeros(2)
    for _ in range(100):
        first, second = images(rng, rng.normal(0, 0.3, 40)), images(rng, rng.normal(0.3, 0.3, 30))
        labels = one_class(first, second)
        found += np.array(permutation_p(first, labels[0], second, labels[1], 99, rng)) <= 0.05
    assert (found >= 90).all()


def test_p_values_are_those_of_scipy():
    rng = np.random.default_rng(3)
    first, second = images(rng, rng.normal(0, 0.5, 5)), images(rng, rng.normal(0.6, 0.5, 5))
    both = np.concatenate([first, second]).astype(float)
    both = np.add.reduceat(both, joined_bins(both.sum(axis=0), 0.5), axis=1)
    ours = permutation_p(first, one_class(first)[0], second, one_class(second)[0], 20_000, rng)
    for place, p in enumerate(ours):
        exact = stats.permutation_test(
            (np.arange(5), np.arange(5, 10)),
            lambda a, b, place=place: statistics(both[a.astype(int)].sum(axis=0)[None], both.sum(axis=0))[place, 0],
            alternative="greater",
            n_resamples=np.inf,
        ).pvalue
        assert 0.01 < exact < 0.5
        assert within_binomial(p * 20_001 - 1, 20_000, exact)


def test_statistics_are_those_of_scipy():
    rng = np.random.default_rng(4)
    table = rng.integers(1, 100, (2, 6)).astype(float)
    ours = statistics(table[:1], table.sum(axis=0))[:, 0]
    for value, kind in zip(ours, ("pearson", "log-likelihood"), strict=True):
        assert value == pytest.approx(stats.chi2_contingency(table, correction=False, lambda_=kind).statistic)
    assert (statistics(np.zeros((1, 6)), table.sum(axis=0)) == 0).all()


def test_the_number_of_permutations_bounds_p():
    first, second = images(np.random.default_rng(5), [-2.0] * 20), images(np.random.default_rng(6), [2.0] * 20)
    for permutations in (9, AT_ONCE + 9):
        p = permutation_p(first, *one_class(first), second, *one_class(second), permutations, np.random.default_rng(7))
        assert p == pytest.approx((1 / (1 + permutations),) * 2)


def test_shuffling_keeps_every_stratum():
    strata = np.repeat([0, 1, 2], [5, 7, 9])
    sides = np.random.default_rng(8).random(21) < 0.4
    drawn = permuted_within(sides, strata, 300, np.random.default_rng(9))
    for stratum in range(3):
        part = drawn[:, strata == stratum]
        assert (part.sum(axis=1) == sides[strata == stratum].sum()).all()
        assert part.mean(axis=0) == pytest.approx(sides[strata == stratum].mean(), abs=0.15)
    assert len(np.unique(drawn, axis=0)) > 250


def resplit_distances(real, cells, other, other_cells, synthetic_labels, number, rng):
    split = resplit_people(cells, other_cells, synthetic_labels, number, rng)
    if split is None:
        return None
    assert not ((split.unseen > 0) & (split.rest > 0)).any()
    assert ((split.unseen > 0) | (split.rest > 0)).all()
    pool = np.concatenate([real, other])
    return cramers_v(split.unseen @ pool, split.rest @ pool)


def resplit_p(rng, real, synthetic, other, resplits=99):
    """Rank of real against synthetic; each is (histograms, cells)."""
    drawn = resplit_distances(*real, *other, synthetic[1]["label"], resplits, rng)
    return rank_p(float(cramers_v(real[0].sum(axis=0), synthetic[0].sum(axis=0))), drawn)


def test_another_group_of_people_is_rejected_by_images_but_not_by_the_rank():
    """People differ. That is why the rank exists: at 5 % the permutation of images rejects a third of the groups."""
    rng = np.random.default_rng(10)
    ranks, by_image = [], []
    for _ in range(600):
        real, other, synthetic = persons(rng, 12, 12), persons(rng, 20, 12), persons(rng, 20, 12)
        ranks.append(resplit_p(rng, real, synthetic, other))
        if len(by_image) < 100:
            labels = one_class(real[0], synthetic[0])
            by_image.append(permutation_p(real[0], labels[0], synthetic[0], labels[1], 99, rng)[0])
    assert within_binomial((np.array(ranks) <= 0.05).sum(), 600, 0.05)
    assert within_binomial((np.array(ranks) <= 0.5).sum(), 600, 0.5)
    assert (np.array(by_image) <= 0.05).sum() > 20


def test_the_rank_finds_a_shift_beyond_that_of_people():
    """Shifted by 0.7 where people differ by 0.5: found in 95 of 100 trials."""
    rng = np.random.default_rng(11)
    found = sum(
        resplit_p(rng, persons(rng, 12, 6), persons(rng, 20, 6, 0.7), persons(rng, 20, 6)) <= 0.05 for _ in range(100)
    )
    assert found >= 85


def test_people_alike_within_each_class_lie_at_no_distance():
    """Whatever classes a person's cells have: the mix of a group is no difference between people."""
    rng = np.random.default_rng(12)
    shares = {"healthy": np.array([70, 20, 10, 0]), "ill": np.array([5, 5, 30, 60])}
    sides = []
    for number in (8, 15):
        of = pd.DataFrame({"person": rng.integers(0, number, 120), "label": rng.choice(list(shares), 120)})
        of.loc[of["person"] > 1, "label"] = "healthy"  # few are ill: chance alone would leave a group without
        sides.append((np.stack([shares[label] for label in of["label"]]), of))
    even = sides[0][1]["label"].to_numpy()
    assert resplit_distances(*sides[0], *sides[1], even, 200, rng) == pytest.approx(0, abs=1e-7)
    # a model that makes another mix is compared with groups that have the same two mixes
    ill = np.repeat(["ill", "healthy"], [90, 10])
    drawn = resplit_distances(*sides[0], *sides[1], ill, 200, rng)
    expected = cramers_v(sides[0][0].sum(axis=0), np.stack([shares[label] for label in ill]).sum(axis=0))
    assert drawn == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unseen", "others", "enough"), [(4, 30, False), (30, 4, False), (9, 10, False), (5, 15, True)]
)
def test_few_people_are_not_resplit(unseen, others, enough):
    rng = np.random.default_rng(13)
    real, other = persons(rng, unseen, 2), persons(rng, others, 2)
    drawn = resplit_distances(*real, *other, real[1]["label"], 250, rng)
    assert (drawn is not None) == enough
    if enough:
        assert drawn.shape == (250,)
        assert len(np.unique(drawn)) > 240


def test_every_draw_has_as_many_people_as_are_unseen():
    """People of one cell, in a bin of their own: the distance tells how many are on each side."""
    real = np.eye(30, dtype=int)[:10], pd.DataFrame({"label": "ill", "person": range(10)})
    other = np.eye(30, dtype=int)[10:], pd.DataFrame({"label": "ill", "person": range(20)})
    both = np.zeros((2, 30))
    both[0, :10], both[1, 10:] = 1, 1
    drawn = resplit_distances(*real, *other, real[1]["label"], 50, np.random.default_rng(14))
    assert drawn == pytest.approx(cramers_v(*both))


def test_rank_counts_the_observed_distance_and_ties():
    drawn = np.array([0.1, 0.2, 0.2, 0.3])
    assert [rank_p(value, drawn) for value in (0.0, 0.2, 0.25, 0.5)] == pytest.approx([1, 0.8, 0.4, 0.2])


def test_effect_sizes_are_those_of_scipy_and_always_numbers():
    rng = np.random.default_rng(15)
    first, second = rng.integers(0, 1000, (2, 500, 32))
    assert jensen_shannon(first, second) == pytest.approx(jensenshannon(first, second, base=2, axis=1) ** 2)
    balanced = np.stack([first[0] * second[0].sum(), second[0] * first[0].sum()])
    assert cramers_v(first[0], second[0]) == pytest.approx(stats.contingency.association(balanced, correction=False))
    nearly = first * 3.7 + (rng.random(first.shape) < 0.5) * 1e-12
    assert jensen_shannon(first, nearly) == pytest.approx(0)
    # half of the second's mass lies where the first has none
    assert jensen_shannon(np.array([1, 0]), np.array([1, 1])) == pytest.approx(1.5 - 0.75 * np.log2(3))
    for size in (cramers_v, jensen_shannon):
        assert size(np.array([0, 5, 0]), np.array([0, 0, 7])) == pytest.approx(1)


def test_q_values_are_those_of_scipy_and_never_below_p():
    rng = np.random.default_rng(16)
    names = ("image_chi2", "image_g", "resplit")
    tests = pd.DataFrame({f"{name}_p": rng.uniform(0, 1, 15) ** 2 for name in names}, index=range(5, 20))
    adjusted = with_q_values(tests)
    pd.testing.assert_frame_equal(adjusted[tests.columns], tests)
    for name in names:
        p, q = tests[f"{name}_p"].to_numpy(), adjusted[f"{name}_q"].to_numpy()
        assert q == pytest.approx(stats.false_discovery_control(p))
        assert (q >= p).all()
        assert q.max() <= 1
    by_hand = pd.DataFrame({f"{name}_p": [0.01, 0.04, 0.03, 0.5] for name in names})
    assert with_q_values(by_hand)["resplit_q"].tolist() == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
