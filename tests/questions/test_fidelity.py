"""Distances and scores: what their libraries say, nothing where nothing differs, and people drawn as people."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.fidelity.figure import fidelity
from malaria_diffusion.questions.fidelity.measure import (
    BETTER,
    Projection,
    fidelity_table,
    frechet_distances,
    kernel_distances,
    resampled,
    sliced_wasserstein_distances,
)
from malaria_diffusion.statistics.bootstrap import Bootstrap

D = 4


def people(rng, number, cells, spread, shift=0.0):
    """Cells of variance 1 - `spread`^2 about their people's centres, and whose they are."""
    centres = shift + spread * rng.normal(size=(number, 1, D))
    x = centres + np.sqrt(1 - spread**2) * rng.normal(size=(number, cells, D))
    return x.reshape(-1, D), np.repeat([f"P{k:02}" for k in range(number)], cells)


def plain(x):
    return resampled(x, None, Bootstrap(0, 0.95, np.random.default_rng(0)))


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x, who = people(rng, 12, 5, 0.7)
    y, whose = people(rng, 15, 4, 0.7, 0.3)
    return resampled(x, who, Bootstrap(50, 0.95, rng)), resampled(y, whose, Bootstrap(50, 0.95, rng))


def test_the_kernel_distance_of_images_of_different_people_is_kids(pair):
    x, y = (plain(side.features) for side in pair)
    expected = poly_mmd(torch.from_numpy(x.features), torch.from_numpy(y.features))
    assert kernel_distances(x, y)[0] == pytest.approx(float(expected), rel=1e-9)


def test_the_kernel_distance_is_zero_on_average_where_nothing_differs():
    rng = np.random.default_rng(1)
    found = [kernel_distances(plain(rng.normal(size=(40, D))), plain(rng.normal(size=(50, D))))[0] for _ in range(400)]
    assert abs(stats.ttest_1samp(found, 0).statistic) < 3.5
    assert min(found) < 0 < max(found)


def test_pairs_are_of_different_people_also_where_one_is_drawn_twice(pair):
    """Written out: every draw as a list of copies of people, every pair of images looked at."""
    kernel = lambda a, b: (a @ b / D + 1) ** 3  # noqa: E731

    def copies(side, draw):
        return [
            (p, side.features[side.owner == p]) for p, times in enumerate(side.draws[draw]) for _ in range(int(times))
        ]

    def within(drawn):
        found = []
        for p, x in drawn:
            for q, y in drawn:
                if p != q:
                    found += [kernel(a, b) for a in x for b in y]
        return np.mean(found)

    distances = kernel_distances(*pair)
    for draw in (1, 2):
        x, y = (copies(side, draw) for side in pair)
        across = np.mean([kernel(a, b) for _, u in x for _, v in y for a in u for b in v])
        assert distances[draw] == pytest.approx(within(x) + within(y) - 2 * across)


def test_resampling_people_adds_no_distance():
    rng = np.random.default_rng(2)
    x, who = people(rng, 10, 20, 0.9)
    y, whose = people(rng, 10, 20, 0.9)
    found = kernel_distances(
        resampled(x, who, Bootstrap(2000, 0.95, rng)), resampled(y, whose, Bootstrap(2000, 0.95, rng))
    )
    assert abs(found[1:].mean() - found[0]) < 0.1 * found[1:].std()


@pytest.mark.parametrize("number", [15, 35])
def test_a_perfect_generator_is_at_no_distance_however_few_people_there_are(number):
    """Cells of a person alike, people of unequal numbers of cells, synthetic cells of new people."""
    rng, dimensions, spread = np.random.default_rng(20), 16, 0.3
    found, held = [], 0
    for _ in range(120):
        owner = np.repeat(np.arange(number), rng.multinomial(300 - number, rng.dirichlet(np.full(number, 2))) + 1)
        centres = spread * rng.normal(size=(number, dimensions))
        real = centres[owner] + np.sqrt(1 - spread**2) * rng.normal(size=(300, dimensions))
        bootstrap = Bootstrap(200, 0.95, rng)
        sides = (
            resampled(real, owner.astype(str), bootstrap),
            resampled(rng.normal(size=(300, dimensions)), None, bootstrap),
        )
        draws = kernel_distances(*sides)
        low, high = bootstrap.interval(draws[1:])
        found.append(draws[0])
        held += low <= 0 <= high
    assert abs(np.mean(found)) < min(0.01, 4 * np.std(found) / np.sqrt(len(found)))
    assert held >= stats.binom.ppf(0.001, len(found), 0.9)


def test_one_image_far_away_does_not_decide():
    rng = np.random.default_rng(21)
    projection = Projection(rng.normal(size=(400, D)), 200)
    real, odd = rng.normal(size=(200, D)), rng.normal(size=(200, D))
    before = kernel_distances(plain(projection(real)), plain(projection(odd)))[0]
    odd[0] = 1000
    assert abs(kernel_distances(plain(projection(real)), plain(projection(odd)))[0] - before) < 0.1


def test_intervals_of_the_kernel_distance_cover_it():
    """Against the mean over many samples of people, of which cells are alike."""
    rng = np.random.default_rng(3)

    def side(shift, resamples):
        x, who = people(rng, 25, 4, 0.7)
        return resampled(x, who, Bootstrap(resamples, 0.95, rng)), resampled(
            rng.normal(shift, 1, (100, D)), None, Bootstrap(resamples, 0.95, rng)
        )

    for shift in (0.0, 0.5):
        truth = np.mean([kernel_distances(*side(shift, 0))[0] for _ in range(1000)])
        covered = 0
        for _ in range(150):
            low, high = np.quantile(kernel_distances(*side(shift, 100))[1:], [0.025, 0.975])
            covered += low <= truth <= high
        # percentile intervals of 25 people are a little short
        assert stats.binom.ppf(0.0005, 150, 0.9) <= covered


def exact(rng, n, mean, deviation):
    """Features of exactly these moments."""
    x = rng.normal(size=(n, D))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x * deviation + mean


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(4)
    mean, first, second = np.arange(D), np.array([1, 2, 3, 4]), np.array([2, 2, 1, 0.5])
    found = frechet_distances(plain(exact(rng, 30, 0, first)), plain(exact(rng, 60, mean, second)))
    assert found[0] == pytest.approx(np.square(mean).sum() + np.square(first - second).sum())
    same = exact(rng, 30, 1, first)
    assert frechet_distances(plain(same), plain(same[::-1]))[0] == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_is_fids(pair):
    moments = [torch.from_numpy(m) for side in pair for m in (side.features.mean(axis=0), np.cov(side.features.T))]
    assert frechet_distances(*pair)[0] == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)


def test_resamples_of_the_frechet_distance_are_those_of_the_drawn_images_moved_to_its_mean(pair):
    found = frechet_distances(*pair)
    drawn = []
    for draw in range(1, 51):
        moments = []
        for side in pair:
            x = side.features.repeat(side.draws[draw].astype(int)[side.owner], axis=0)
            moments += [torch.from_numpy(x.mean(axis=0)), torch.from_numpy(np.cov(x.T))]
        drawn.append(float(_compute_fid(*moments)))
    assert np.mean(drawn) > found[0]  # why they are moved
    np.testing.assert_allclose(found[1:], (drawn - np.mean(drawn) + found[0]).clip(0), rtol=1e-5, atol=1e-6)


def test_of_the_sliced_wasserstein_distance_a_perfect_generator_is_at_the_floor_and_a_collapse_is_found():
    """Synthetic cells of new people, as many images; collapsed: with half of their spread."""
    rng, held, found = np.random.default_rng(22), 0, 0
    for _ in range(25):
        bootstrap = Bootstrap(40, 0.95, rng)
        real, floor = (resampled(*people(rng, 15, 8, 0.3), bootstrap) for _ in range(2))
        new = rng.normal(size=(120, D))
        at, of_collapse, of_floor = (
            sliced_wasserstein_distances(real, side)
            for side in (resampled(new, None, bootstrap), resampled(0.5 * new, None, bootstrap), floor)
        )
        held += bootstrap.interval((at - of_floor)[1:])[0] <= 0
        found += bootstrap.interval((of_collapse - of_floor)[1:])[0] > 0
    assert held >= 23
    assert found >= 23


def test_too_few_images_for_a_covariance_are_refused():
    rng = np.random.default_rng(5)
    many, few = plain(rng.normal(size=(99, D))), plain(rng.normal(size=(4 * D, D)))
    for sides in ((many, few), (few, many)):
        with pytest.raises(UserError, match="16 images in 4 dimensions"):
            frechet_distances(*sides)


def test_draws_are_of_owners_and_one_owner_alone_is_drawn_again():
    rng = np.random.default_rng(9)
    side = resampled(np.zeros((6, D)), np.array(["b", "a", "b", "c", "a", "b"]), Bootstrap(500, 0.95, rng))
    assert side.owner.tolist() == [1, 0, 1, 2, 0, 1]
    assert (side.draws[0] == 1).all()
    assert (side.draws.sum(axis=1) == 3).all()
    assert not (side.draws == 3).any()
    np.testing.assert_allclose(side.draws.mean(axis=0), 1, atol=0.15)


def test_one_person_makes_no_interval():
    with pytest.raises(UserError, match="9 cells of 1 people"):
        resampled(np.zeros((9, D)), np.full(9, "a"), Bootstrap(100, 0.95, np.random.default_rng(0)))


def test_the_projection_makes_every_direction_as_wide_and_obeys_the_number_of_images():
    rng = np.random.default_rng(10)
    fit = rng.normal(size=(500, 100)) * np.linspace(1, 50, 100) + 7
    project = Projection(fit, 90)
    assert project.dimensions == 22
    np.testing.assert_allclose(np.cov(project(fit).T), np.eye(22), atol=1e-6)
    assert Projection(fit, 1000).dimensions == 64
    assert Projection(fit[:41], 1000).dimensions == 10


def test_directions_that_there_are_not_are_left_out():
    rng = np.random.default_rng(11)
    fit = np.float32(5 + rng.normal(size=(500, 3)) @ rng.normal(size=(3, 40)))
    project = Projection(np.concatenate([fit, np.full((500, 5), 3, np.float32)], axis=1), 400)
    assert project.dimensions == 3
    assert np.abs(project(np.ones((2, 45)))).max() < 1e3


@pytest.mark.parametrize(
    ("fit", "n", "message"),
    [
        (np.ones((50, 8)), 50, "the same for every real cell"),
        (np.full((50, 8), np.nan), 50, "not finite"),
        (np.eye(50), 4, "4 of a class"),
        (np.eye(4), 50, "4 real cells to fit by"),
        (np.ones(50), 50, "features of shape"),
    ],
)
def test_features_to_fit_by_that_will_not_do_are_refused(fit, n, message):
    with pytest.raises(UserError, match=message):
        Projection(fit, n)


@pytest.mark.parametrize("bad", [np.ones((5, 7)), np.full((5, 8), np.inf), np.ones(8)])
def test_features_unlike_those_fitted_are_refused(bad):
    project = Projection(np.random.default_rng(0).normal(size=(50, 8)), 50)
    with pytest.raises(UserError, match=r"expected|not finite"):
        project(bad)


def study(rng, shift=1.0):
    """Two classes, the synthetic cells of one of which are off by `shift`."""
    features, cells = {}, {}
    for side in ("real", "floor", "synthetic"):
        well, who = people(rng, 15, 6, 0.5)
        ill, _ = people(rng, 15, 6, 0.5)
        features[side] = np.concatenate([well, ill + shift * (side == "synthetic")])
        cells[side] = pd.DataFrame({"label": ["well"] * 90 + ["ill"] * 90, "person": [*who, *who]})
    cells["synthetic"] = cells["synthetic"].drop(columns="person")
    return features, cells


def test_the_table_finds_the_class_that_is_off():
    features, cells = study(np.random.default_rng(12))
    table = fidelity_table(features, cells, Bootstrap(100, 0.95, np.random.default_rng(0)))
    assert list(table["metric"].unique()) == list(BETTER)
    assert list(table["group"][:3]) == ["all", "ill", "well"]
    assert list(table["n"][:3]) == [180, 90, 90]
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    for name in ("", "floor_", "difference_"):
        assert (table[f"{name}low"] <= table[f"{name}high"]).all()
    np.testing.assert_allclose(table["difference"], table["value"] - table["floor"])
    ill, well = (table[table["group"] == group].set_index("metric") for group in ("ill", "well"))
    for metric, better in BETTER.items():
        sign = 1 if better == "smaller" else -1
        assert sign * ill.loc[metric, "value"] > sign * well.loc[metric, "value"], metric
        assert sign * ill.loc[metric, ["difference_low", "difference_high"]].mean() > 0
    for metric in ("kernel distance", "Frechet distance", "sliced Wasserstein distance"):
        assert ill.loc[metric, "difference_low"] > 0
        assert well.loc[metric, "difference_low"] < 0.1
    assert len(fidelity(table, "space", "cells").axes) == 8  # of which one is empty


def test_synthetic_cells_are_left_out_by_image_and_the_floors_by_person():
    """Half of the images are far away, and of the floor half of the people: two binomial shares."""
    features, cells = study(np.random.default_rng(15), 0.0)
    features["synthetic"][np.random.default_rng(0).permutation(180)[:90]] += 50
    features["floor"][cells["floor"]["person"].isin([f"P{k:02}" for k in range(0, 15, 2)])] += 50
    table = fidelity_table(features, cells, Bootstrap(400, 0.95, np.random.default_rng(0))).set_index(
        ["metric", "group"]
    )
    row = table.loc[("precision", "all")]
    for prefix, value, units in (("", row["value"], 180), ("floor_", row["floor"], 15)):
        width = 2 * 1.96 * np.sqrt(value * (1 - value) / units)
        assert row[f"{prefix}high"] - row[f"{prefix}low"] == pytest.approx(width, rel=0.25)


def test_the_same_seed_gives_the_same_table_and_the_order_of_images_no_other_values():
    features, cells = study(np.random.default_rng(13))
    table = fidelity_table(features, cells, Bootstrap(20, 0.9, np.random.default_rng(0)))
    pd.testing.assert_frame_equal(table, fidelity_table(features, cells, Bootstrap(20, 0.9, np.random.default_rng(0))))
    order = np.random.default_rng(1).permutation(180)
    moved = fidelity_table(
        {side: x[order] for side, x in features.items()},
        {side: x.iloc[order] for side, x in cells.items()},
        Bootstrap(20, 0.9, np.random.default_rng(0)),
    )
    pd.testing.assert_frame_equal(table[["value", "floor"]], moved[["value", "floor"]])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f, c: f["synthetic"].__setitem__((3, 1), np.nan), "synthetic are not all finite"),
        (lambda f, c: f.update(floor=f["floor"][:, :3]), r"floor are \(180, 3\)"),
        (lambda f, c: f.update(real=f["real"][:-1]), r"real are \(179, 4\)"),
        (lambda f, c: c["synthetic"].__setitem__("label", "ill"), "differ in the number of cells of each class"),
        (lambda f, c: c.update(floor=c["floor"].iloc[:-1]), "differ in the number of cells of each class"),
        (lambda f, c: c["real"].__setitem__("person", "P"), "180 cells of 1 people"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(damage, message):
    features, cells = study(np.random.default_rng(14))
    damage(features, cells)
    with pytest.raises(UserError, match=message):
        fidelity_table(features, cells, Bootstrap(10, 0.9, np.random.default_rng(0)))
