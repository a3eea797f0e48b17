"""The descriptors' tests: calibrated, powerful, with the floor of real people beside them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.descriptors import measure as descriptor_tests
from malaria_diffusion.questions.descriptors.figure import association_matrices, descriptor_distributions
from malaria_diffusion.questions.descriptors.measure import associations, distance_tests
from malaria_diffusion.statistics.bootstrap import Bootstrap

CLASSES = ("healthy", "ill")


def side(rng, people=12, cells=20, spread=0.5, shift=0.0, slope=0.5, prefix="S"):
    """Descriptors and labels of cells whose people differ by `spread`; only ill cells' hue is shifted."""
    own = rng.normal(0, spread, people).repeat(cells)
    label = np.tile(CLASSES, people * cells // 2)
    hue = own + rng.normal(size=people * cells) + shift * (label == "ill")
    described = pd.DataFrame(
        {
            "hue": hue,
            "texture": slope * hue + rng.normal(size=len(hue)),
            "dark_spots": rng.poisson(1.0, len(hue)).astype(float),
            "empty": False,
        }
    )
    person = np.array([f"{prefix}{k}" for k in range(people)]).repeat(cells)
    return described, pd.DataFrame({"label": label, "person": person})


def sides(rng, real=None, floor=None, synthetic=None):
    made = {
        "real": side(rng, prefix="U", **(real or {})),
        "floor": side(rng, people=36, prefix="F", **(floor or {})),
        "synthetic": side(rng, **{"people": 240, "cells": 2} | (synthetic or {})),
    }
    return {name: one for name, (one, _) in made.items()}, {name: other for name, (_, other) in made.items()}


def rows(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def test_p_is_calibrated_for_independent_images(monkeypatch):
    """With ties (counts) too, where the usual asymptotic p is not."""
    monkeypatch.setattr(descriptor_tests, "PERMUTATIONS", 99)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        shuffles = descriptor_tests._shuffles(40, 30, rng)
        found.append(descriptor_tests._permutation_p(rng.normal(size=40), rng.normal(size=30), shuffles))
        found.append(descriptor_tests._permutation_p(rng.poisson(1.0, 40), rng.poisson(1.0, 30), shuffles))
    normal, counts = np.array(found).reshape(-1, 2).T
    low, high = stats.binom.ppf([0.0005, 0.9995], 400, 0.1)
    assert low <= (normal <= 0.1).sum() <= high
    assert 0 < (counts <= 0.1).sum() <= high  # ties make it conservative


def test_rank_p_is_calibrated_for_new_people_whereas_p_is_not(monkeypatch):
    """What the rank is for: images of other real people are no reason to reject."""
    monkeypatch.setattr(descriptor_tests, "PERMUTATIONS", 99)
    rng = np.random.default_rng(1)
    ranks, ps = [], []
    for _ in range(40):
        described, cells = sides(rng)
        described = {name: table[["hue", "empty"]] for name, table in described.items()}
        table = rows(distance_tests(described, cells, Bootstrap(100, 0.95, rng)), group="all").iloc[0]
        ranks.append(table["rank_p"])
        ps.append(table["p"])
    assert (np.array(ranks) <= 0.1).sum() <= stats.binom.ppf(0.9995, 40, 0.1)
    assert 10 < (np.array(ranks) <= 0.5).sum() < 30
    assert (np.array(ps) <= 0.1).sum() > stats.binom.ppf(0.9995, 40, 0.1)


def test_the_class_that_differs_is_found():
    rng = np.random.default_rng(2)
    described, cells = sides(rng, synthetic={"shift": 1.5})
    table = distance_tests(described, cells, Bootstrap(100, 0.95, rng))
    ill = rows(table, descriptor="hue", group="ill").iloc[0]
    healthy = rows(table, descriptor="hue", group="healthy").iloc[0]
    assert ill["rank_p_adjusted"] < 0.05
    assert ill["p_adjusted"] < 0.01
    assert ill["ks"] > 2 * ill["floor_ks"]
    assert ill["energy"] > 2 * ill["floor_energy"]
    assert healthy["rank_p_adjusted"] > 0.05
    assert ill["low"] <= ill["ks"] <= ill["high"]
    assert rows(table, descriptor="dark_spots")["p_adjusted"].min() > 0.01


def test_weighted_statistics_are_those_of_the_repeated_samples():
    rng = np.random.default_rng(3)
    for first, second in ((rng.normal(size=30), rng.normal(1, 1, 20)), (rng.poisson(2, 30), rng.poisson(3, 20))):
        one, other = rng.integers(0, 4, (5, 30)), rng.integers(0, 4, (5, 20))
        found = descriptor_tests._ks(first, one, second, other)
        expected = [
            stats.ks_2samp(first.repeat(a), second.repeat(b)).statistic for a, b in zip(one, other, strict=True)
        ]
        assert found == pytest.approx(expected)


def test_distances_and_adjusted_p_are_the_libraries():
    rng = np.random.default_rng(4)
    described, cells = sides(rng, synthetic={"shift": 0.5})
    table = distance_tests(described, cells, Bootstrap(100, 0.95, rng))
    row = rows(table, descriptor="texture", group="all").iloc[0]
    real, floor, synthetic = (described[name]["texture"] for name in ("real", "floor", "synthetic"))
    scale = real.std(ddof=0)
    assert row["ks"] == pytest.approx(stats.ks_2samp(real, synthetic).statistic)
    assert row["floor_ks"] == pytest.approx(stats.ks_2samp(real, floor).statistic)
    assert row["energy"] == pytest.approx(stats.energy_distance(real / scale, synthetic / scale))
    assert row["floor_energy"] == pytest.approx(stats.energy_distance(real / scale, floor / scale))
    for p in ("p", "rank_p"):
        assert table[f"{p}_adjusted"].to_numpy() == pytest.approx(stats.false_discovery_control(table[p]))


def test_intervals_are_over_people():
    rng = np.random.default_rng(5)
    widths = []
    for spread in (0.0, 1.5):
        described, cells = sides(rng, real={"spread": spread})
        row = rows(distance_tests(described, cells, Bootstrap(200, 0.95, rng)), descriptor="hue", group="all").iloc[0]
        widths.append(row["high"] - row["low"])
    assert widths[1] > 1.5 * widths[0]


def test_associations_find_the_pair_that_came_apart():
    rng = np.random.default_rng(7)
    described, cells = sides(rng, synthetic={"slope": -1.0})
    found = associations(described, cells, Bootstrap(100, 0.95, rng))
    row = rows(found.differences, group="all").iloc[0]
    assert {row["first"], row["second"]} == {"hue", "texture"}
    assert row["real_spearman"] > 0.3 > -0.3 > row["synthetic_spearman"]
    assert row["floor"] < row["low"] <= row["difference"] <= row["high"]
    part = rows(found.correlations, group="ill", side="real", first="hue", second="texture")
    ill = cells["real"]["label"] == "ill"
    expected = stats.spearmanr(described["real"]["hue"][ill], described["real"]["texture"][ill]).statistic
    assert part["spearman"].item() == pytest.approx(expected)
    gaps = found.correlations.pivot_table("spearman", ["first", "second"], ["group", "side"])["all"]
    assert row["difference"] == pytest.approx((gaps["real"] - gaps["synthetic"]).abs().mean())


def test_the_same_associations_differ_as_little_as_the_floor():
    rng = np.random.default_rng(8)
    described, cells = sides(rng)
    row = rows(associations(described, cells, Bootstrap(100, 0.95, rng)).differences, group="all").iloc[0]
    assert row["difference"] < 0.1
    assert row["low"] < row["floor"] + 0.05


def test_constant_descriptors_and_cells_without_foreground_leave_no_gap():
    rng = np.random.default_rng(9)
    described, cells = sides(rng)
    for table in described.values():
        table["dark_spots"] = 1.0
    described["synthetic"].loc[:9, "empty"] = True
    described["synthetic"].loc[:9, "hue"] = 1e9  # must not be looked at
    table = distance_tests(described, cells, Bootstrap(100, 0.95, rng))
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert not table.isna().any(axis=None)
    constant = rows(table, descriptor="dark_spots")
    assert (constant["ks"] == 0).all()
    assert (constant["p"] == 1).all()
    assert (constant["energy"] == 0).all()
    counted = rows(table, descriptor="hue").set_index("group")["synthetic_empty"]
    assert counted.to_dict() == {"all": 10, "healthy": 5, "ill": 5}
    assert rows(table, descriptor="hue", group="all")["synthetic_cells"].item() == 470
    found = associations(described, cells, Bootstrap(100, 0.95, rng))
    for part in found:
        assert not part.isna().any(axis=None)
    assert (rows(found.correlations, second="dark_spots")["spearman"] == 0).all()


def test_a_descriptor_constant_in_real_cells_only_still_has_a_distance():
    rng = np.random.default_rng(10)
    described, cells = sides(rng)
    described["real"]["dark_spots"] = 0.0
    row = rows(distance_tests(described, cells, Bootstrap(100, 0.95, rng)), descriptor="dark_spots", group="all").iloc[
        0
    ]
    assert row["ks"] > 0.5
    assert np.isfinite(row["energy"])


def test_the_same_seed_gives_the_same_numbers():
    described, cells = sides(np.random.default_rng(11))
    one, other = (distance_tests(described, cells, Bootstrap(100, 0.95, np.random.default_rng(0))) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(12)
    described, cells = sides(rng)
    bootstrap = Bootstrap(100, 0.95, rng)
    for function in (distance_tests, associations):
        with pytest.raises(UserError, match="0 synthetic cells of class 'ill'"):
            function(described, cells | {"synthetic": cells["synthetic"].assign(label="healthy")}, bootstrap)
        with pytest.raises(UserError, match="labelled"):
            function(described, cells | {"real": cells["real"].iloc[1:]}, bootstrap)
        broken = described["floor"].assign(hue=np.nan)
        with pytest.raises(UserError, match="missing values"):
            function(described | {"floor": broken}, cells, bootstrap)


def test_too_few_people_have_no_rank():
    rng = np.random.default_rng(14)
    described, cells = sides(rng, synthetic={"shift": 5.0})
    few = {name: table.assign(person=name) for name, table in cells.items()}
    table = distance_tests(described, few, Bootstrap(100, 0.95, rng))
    assert table[["rank_p", "rank_p_adjusted"]].isna().all(axis=None)
    assert table["p_adjusted"].notna().all()


def test_figures_show_every_class_and_descriptor():
    rng = np.random.default_rng(13)
    described, cells = sides(rng)
    described["synthetic"].loc[:3, "empty"] = True
    tests = distance_tests(described, cells, Bootstrap(100, 0.95, rng))
    figure = descriptor_distributions(described, cells, tests, "Descriptors")
    assert len(figure.axes) == 6
    assert f"KS {rows(tests, descriptor='hue', group='healthy')['ks'].item():.2f}" in figure.axes[0].get_title()
    found = associations(described, cells, Bootstrap(100, 0.95, rng))
    matrices = association_matrices(*found, "Associations")
    images = [axes.get_images()[0].get_array() for axes in matrices.axes[:3]]
    for image, name in zip(images, ("real", "floor", "synthetic"), strict=True):
        part = rows(found.correlations, group="all", side=name, first="hue", second="texture")["spearman"].item()
        assert image[0, 1] == image[1, 0] == pytest.approx(part)
