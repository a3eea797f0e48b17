"""The distribution tests: calibrated, powerful, and honest about what a p-value says."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.distributions.measure import (
    Comparison,
    alike,
    check_foreground,
    compare,
    effect_sizes,
    foreground,
    intensity_histograms,
    results_table,
    score_histograms,
)

BLACK = (0, 0, 0)


def histogram(rng, shift=0.0, count=2000, bins=16):
    return np.histogram(rng.normal(shift, 1, count), bins=bins, range=(-4, 4))[0]


def test_a_threshold_that_leaves_out_most_of_a_class_is_refused_with_its_name():
    cells = np.full((40, 3, 4, 4), 9, np.uint8)
    labels = pd.Series(["dim", "lit"] * 20, index=range(100, 140))
    cells[1::2, 0, 2, 2] = 50
    cells[0:22:2, 1, 3, 3] = 31  # 11 of 20
    check_foreground(cells, labels, (0, 0, 0), 30)
    with pytest.raises(UserError, match=r"foreground_threshold is 31, but 20 of 20 cells of class 'dim'"):
        check_foreground(cells, labels, (0, 0, 0), 31)
    cells[0:18:2] = 60  # 9 of 20
    with pytest.raises(UserError, match="11 of 20 cells of class 'dim'"):
        check_foreground(cells, labels, (0, 0, 0), 31)
    check_foreground(cells, labels, (0, 0, 0), -1)


def test_p_values_are_uniform_when_nothing_differs():
    rng = np.random.default_rng(0)
    tests = [compare(histogram(rng), histogram(rng)) for _ in range(1000)]
    for name in ("chi2_p", "g_p"):
        rejected = sum(getattr(test, name) < 0.05 for test in tests)
        low, high = stats.binom.ppf([0.0005, 0.9995], 1000, 0.05)
        assert low <= rejected <= high


def test_a_shift_is_found_and_its_size_grows_with_it():
    rng = np.random.default_rng(1)
    sizes = [compare(histogram(rng), histogram(rng, shift)) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert sizes[1].chi2_p < 1e-6
    assert sizes[1].g_p < 1e-6
    for name in ("cramers_v", "kl", "js"):
        values = [getattr(size, name) for size in sizes]
        assert values == sorted(values)


def test_the_likelihood_ratio_is_twice_the_count_times_a_divergence():
    rng = np.random.default_rng(2)
    first, second = histogram(rng, count=1000, bins=4), histogram(rng, 0.5, count=3000, bins=4)
    test = compare(first, second)
    table = np.stack([first, second])
    joint = table / table.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    divergence = np.where(joint > 0, joint * np.log(np.where(joint > 0, joint, 1) / independent), 0).sum()
    assert test.bins == 4
    assert test.g == pytest.approx(2 * table.sum() * divergence)


def test_disjoint_histograms_are_as_unlike_as_can_be():
    first, second = np.zeros(32, dtype=int), np.zeros(32, dtype=int)
    first[3], second[20] = 1000, 1000
    test = compare(first, second)
    assert (test.cramers_v, test.js) == pytest.approx((1, 1))
    assert np.isfinite(test.kl)
    assert test.kl > 1


def test_equal_histograms_do_not_differ():
    counts = np.array([10, 200, 3000, 40, 0, 0, 1])
    test = compare(counts, counts)
    assert (test.chi2, test.cramers_v, test.kl, test.js) == pytest.approx((0, 0, 0, 0))
    assert test.chi2_p == pytest.approx(1)


def test_pooled_bins_have_enough_expected_counts():
    rng = np.random.default_rng(3)
    first, second = rng.poisson(0.7, 256), rng.poisson(0.7, 256)
    assert 2 < compare(first, second).bins < (first.sum() + second.sum()) / 10 + 1


def test_one_bin_shows_no_difference_and_nothing_is_not_a_number():
    test = compare(np.array([0, 50, 0]), np.array([0, 70, 0]))
    assert test.bins == 1
    assert np.isfinite(test).all()


def test_an_empty_histogram_is_refused():
    with pytest.raises(ValueError, match="foreground_threshold"):
        compare(np.zeros(8, dtype=int), np.ones(8, dtype=int))


def test_foreground_leaves_the_padding_out():
    cells = np.zeros((2, 3, 8, 8), dtype=np.uint8)
    cells[0, 1, 2:5, 2:6] = 200
    cells[1, :, 0, 0] = 10  # below the threshold
    mask = foreground(cells, BLACK, 30)
    assert mask[0].sum() == 12
    assert not mask[1].any()
    assert (foreground(255 - cells, (255, 255, 255), 30) == mask).all()


def test_intensity_histograms_count_every_foreground_pixel_once():
    rng = np.random.default_rng(4)
    cells = rng.integers(0, 256, (700, 3, 6, 6), dtype=np.uint8)
    cells[:, :, 0] = 0
    histograms = intensity_histograms(cells, 16, BLACK, 30)
    pixels = foreground(cells, BLACK, 30).sum(axis=(1, 2))
    for counts in histograms.values():
        assert (counts.sum(axis=1) == pixels).all()
    one = cells[650]
    mask = foreground(one[None], BLACK, 30)[0]
    expected = np.histogram(one[0][mask], bins=16, range=(0, 256))[0]
    assert (histograms["red"][650] == expected).all()


def test_score_histograms_hold_one_count_a_cell():
    histograms = score_histograms(np.array([0.0, 0.49, 0.5, 1.0]), 2)
    assert histograms.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def people(rng, number, cells, spread):
    """Histograms of cells whose people differ by `spread`."""
    shifts = rng.normal(0, spread, number)
    rows = [histogram(rng, shift, 300) for shift in shifts for _ in range(cells)]
    return np.array(rows), np.repeat([f"P{k}" for k in range(number)], cells)


def test_the_interval_is_wider_when_people_differ():
    rng = np.random.default_rng(6)
    synthetic, _ = people(rng, 100, 1, 0.0)
    widths = []
    for spread in (0.0, 0.8):
        real, who = people(rng, 10, 10, spread)
        found = effect_sizes(real, who, synthetic, 0.95)
        assert 0 <= found.v_low < found.v_high <= 1
        assert 0 <= found.js_low < found.js_high <= 1
        widths.append(found.v_high - found.v_low)
    alone = effect_sizes(real, np.arange(len(real)).astype(str), synthetic, 0.95)
    assert alone.v_high - alone.v_low < 0.6 * widths[1]
    assert widths[1] > 2 * widths[0]


def test_alike_needs_the_upper_bound_within_the_margin():
    assert alike(5, 20, 0.1, 0.2) == "alike"
    assert alike(5, 20, 0.2001, 0.2) == "not shown to be alike"
    assert alike(1, 20, 0.0, 0.1) == "cannot tell"
    assert alike(5, 4, 0.0, 0.1) == "cannot tell"


def drawn(rng, number, shift=0.0, collapsed=False, cells=300):
    """Histograms of cells of people with stains of their own, of unequal numbers of cells, and of a generator."""

    def counts(level, width):
        edges = np.linspace(-4, 4, 33)
        shares = np.diff(stats.norm.cdf((edges - np.asarray(level)[:, None]) / width), axis=1)
        return rng.multinomial(300, shares / shares.sum(axis=1, keepdims=True))

    person, cell = 0.58, 0.35  # of the standard deviation of all pixels
    width = np.sqrt(1 - person**2 - cell**2)
    owner = np.repeat(np.arange(number), rng.multinomial(cells - number, rng.dirichlet(np.full(number, 2))) + 1)
    real = counts(person * rng.normal(size=number)[owner] + cell * rng.normal(size=cells), width)
    level = np.zeros(cells) if collapsed else shift + np.hypot(person, cell) * rng.normal(size=cells)
    return real, owner.astype(str), counts(level, width)


def share_alike(seed, trials=100, **how):
    rng = np.random.default_rng(seed)
    found = [effect_sizes(*drawn(rng, **how), 0.95).v_bound for _ in range(trials)]
    return np.mean([alike(32, how["number"], bound, 0.15) == "alike" for bound in found])


def test_a_perfect_generator_is_called_alike_and_a_collapsed_one_is_not_however_few_people_there_are():
    perfect = [share_alike(30, number=number) for number in (35, 15, 6)]
    assert perfect[0] >= 0.6
    assert perfect[0] > perfect[1] > perfect[2]  # fewer people never make it likelier
    for number in (35, 15, 6):
        assert share_alike(31, number=number, collapsed=True) <= 0.07
        assert share_alike(32, number=number, shift=0.6) <= 0.07


def test_the_effect_is_zero_on_average_where_nothing_differs_and_the_shift_where_something_does():
    rng = np.random.default_rng(33)
    squares = [np.mean([effect_sizes(*drawn(rng, 35, shift), 0.95).v ** 2 for _ in range(100)]) for shift in (0.0, 0.6)]
    assert squares[0] < 0.004  # cut off at 0, so above it on average
    assert squares[1] == pytest.approx(0.081, abs=0.015)  # of two normal distributions so far apart, by numbers


def test_between_two_halves_of_one_population_the_effect_is_zero_on_average_and_the_interval_holds_zero():
    rng = np.random.default_rng(34)
    found, raw = [], []
    for _ in range(100):
        (one, people, _), (other, others, _) = drawn(rng, 15), drawn(rng, 25)
        found.append(effect_sizes(one, people, other, 0.95, others))
        raw.append(compare(one.sum(axis=0), other.sum(axis=0)).cramers_v)
    assert np.mean(raw) > 0.1
    assert np.median([effects.v for effects in found]) < 0.05
    assert np.mean([effects.v_low == 0 for effects in found]) >= 0.9
    assert found[-1].v_high > effect_sizes(one, people, other, 0.95).v_high  # the others are people too


def test_the_effect_does_not_depend_on_how_many_are_counted():
    first, second = np.array([100, 300, 600]), np.array([300, 300, 400])
    effects = [compare(first * a, second * b).cramers_v for a, b in ((1, 1), (10, 1), (1, 30))]
    assert effects == pytest.approx([effects[0]] * 3)
    balanced = compare(first, second)
    assert balanced.cramers_v == pytest.approx(np.sqrt(balanced.chi2 / (first.sum() + second.sum())))


def table_of(histograms, cells, seed, permutations):
    parameters = SimpleNamespace(permutations=permutations, confidence=0.95, margin=0.15)
    return results_table(histograms, cells, parameters, np.random.default_rng(seed))


def study(rng, shift=0.0, spread=0.2, persons=(12, 15), cells=8, synthetic=60):
    """Histograms and cells of three sides in which the ill synthetic cells are shifted."""
    sides, of = {}, {}
    for side, number in zip(("real", "floor"), persons, strict=True):
        healthy, who = people(rng, number, cells, spread)
        ill, _ = people(rng, number, cells, spread)
        sides[side] = {"grey": np.concatenate([healthy, ill])}
        of[side] = pd.DataFrame({"label": ["healthy"] * len(who) + ["ill"] * len(who), "person": [*who, *who]})
    healthy, _ = people(rng, synthetic, 1, spread)
    ill = np.array([histogram(rng, shift, 300) for _ in range(synthetic)])
    sides["synthetic"] = {"grey": np.concatenate([healthy, ill])}
    of["synthetic"] = pd.DataFrame({"label": ["healthy"] * synthetic + ["ill"] * synthetic, "person": ""})
    return sides, of


def test_the_table_finds_the_class_that_differs_with_fewer_synthetic_cells():
    sides, of = study(np.random.default_rng(7), shift=1.0)
    table = table_of(sides, of, 0, 199).set_index("group")
    assert list(table.index) == ["all", "healthy", "ill"]
    assert table.loc["ill", "cramers_v"] > 3 * table.loc["healthy", "cramers_v"]
    assert table.loc["ill", "verdict"] == "not shown to be alike"
    for name in ("image_chi2_p", "image_g_p", "resplit_p"):
        assert table.loc["ill", name] == 1 / 200
    assert table.loc["healthy", "resplit_p"] > 0.05
    assert not table.isna().any().any()


def test_another_group_of_people_stands_out_by_pixels_alone_and_the_same_seed_gives_the_same_table():
    rng = np.random.default_rng(8)
    sides, of = study(rng, spread=0.8, persons=(20, 20), cells=5)
    model, who = people(rng, 400, 1, 0.8)
    sides["synthetic"]["grey"] = model
    of["synthetic"] = pd.DataFrame({"label": np.where(np.arange(400) % 2, "ill", "healthy"), "person": who})
    first, second = (table_of(sides, of, 1, 199) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert (first["chi2_p"] < 1e-3).all()
    assert (first["resplit_p"] > 0.05).all()


def test_the_order_of_images_does_not_matter():
    sides, of = study(np.random.default_rng(9), shift=0.15, spread=0.3)
    order = {side: np.random.default_rng(10).permutation(len(table)) for side, table in of.items()}
    tables = [
        table_of(histograms, cells, 2, 1999)
        for histograms, cells in (
            (sides, of),
            (
                {side: {"grey": sides[side]["grey"][order[side]]} for side in sides},
                {side: of[side].iloc[order[side]] for side in of},
            ),
        )
    ]
    exact = [*Comparison._fields, "resplit_p"]
    pd.testing.assert_frame_equal(tables[0][exact], tables[1][exact])
    for name in ("image_chi2_p", "image_g_p", "v_low", "v_high", "js_high"):  # of images drawn or grouped
        assert np.abs(tables[0][name] - tables[1][name]).max() < 0.06


def test_equal_sides_do_not_differ():
    sides, of = study(np.random.default_rng(11))
    sides["synthetic"], of["synthetic"] = sides["real"], of["real"].assign(person="")
    table = table_of(sides, of, 3, 199)
    assert (table[["chi2_p", "image_chi2_p", "image_g_p", "resplit_p"]] == 1).all(axis=None)
    assert (table[["cramers_v", "js"]] == 0).all(axis=None)


@pytest.mark.parametrize("fault", ["some black", "constant", "one bin", "few people"])
def test_degenerate_cells_follow_a_rule_and_nothing_is_not_a_number(fault):
    sides, of = study(np.random.default_rng(12), persons=(4, 30) if fault == "few people" else (12, 15))
    if fault == "some black":
        sides["synthetic"]["grey"][:20] = 0
        sides["real"]["grey"][:8] = 0  # one person
    elif fault == "constant":
        sides["synthetic"]["grey"][:] = np.eye(16, dtype=int)[3] * 300
    elif fault == "one bin":
        for part in sides.values():
            part["grey"][:] = np.eye(16, dtype=int)[3] * 300
    table = table_of(sides, of, 4, 199)
    numbers = table.select_dtypes("number")
    assert np.isfinite(numbers).all(axis=None)
    assert (numbers.filter(regex="_p$") <= 1).all(axis=None)
    if fault == "some black":
        assert table["empty_synthetic"].tolist() == [20, 20, 0]
        assert table["empty_real"].tolist() == [8, 8, 0]
    elif fault == "constant":
        assert (table[["image_chi2_p", "resplit_p"]] == 1 / 200).all(axis=None)
    else:
        assert (table["verdict"] == "cannot tell").all()
        assert (table["resplit_p"] == 1).all()


@pytest.mark.parametrize("side", ["real", "floor", "synthetic"])
@pytest.mark.parametrize("fault", ["none there", "all black"])
def test_a_class_missing_on_one_side_is_refused(side, fault):
    sides, of = study(np.random.default_rng(13))
    ill = (of[side]["label"] == "ill").to_numpy()
    if fault == "all black":
        sides[side]["grey"][ill] = 0
    else:
        sides[side], of[side] = {"grey": sides[side]["grey"][~ill]}, of[side][~ill]
    with pytest.raises(UserError, match=rf"no {side} cell of class 'ill'.*diffusion\.sampling\.count"):
        table_of(sides, of, 5, 199)
