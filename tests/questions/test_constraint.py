"""What is no cell: phantom cells are within the limits of others, every planted kind is found, intervals hold."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from scipy.stats import binomtest

from malaria_diffusion.cells.decode import fit
from malaria_diffusion.cells.phantom.draw import PhantomParameters, phantom_cells
from malaria_diffusion.questions.constraint.figure import Side, constraint_figure, within, worst
from malaria_diffusion.questions.constraint.measure import (
    LIMITS,
    constraint_table,
    limits_of,
    violations,
)
from malaria_diffusion.questions.constraint.outline import outlines
from malaria_diffusion.questions.distributions.measure import foreground
from malaria_diffusion.statistics.bootstrap import Interval
from malaria_diffusion.statistics.jackknife import difference_interval

BLACK, THRESHOLD, S = (0, 0, 0), 30, 48


@pytest.fixture(scope="module")
def phantoms():
    """Cells of many people, and whose they are."""
    drawn = list(phantom_cells(PhantomParameters(infected_people=30, healthy_people=15, cells_per_person=12)))
    return np.stack([fit(Image.fromarray(cell.image), S, BLACK) for cell in drawn]), pd.DataFrame(
        {"label": [cell.label for cell in drawn], "person": [cell.person for cell in drawn]}
    )


def disc(radius=20.0, centre=(24, 24), size=S):
    down, across = np.ogrid[:size, :size]
    return (down - centre[0]) ** 2 + (across - centre[1]) ** 2 <= radius**2


def cell_of(mask):
    return np.where(mask, np.uint8(200), np.uint8(0))[None, None].repeat(3, axis=1)


def measured(mask):
    return outlines(cell_of(mask), BLACK, THRESHOLD).iloc[0]


def test_a_disc_is_round_and_solid_and_a_frame_full_is_a_square():
    found = measured(disc())
    assert found["roundness"] == pytest.approx(1, abs=0.01)
    assert found["solidity"] > 0.95
    assert found["area"] == pytest.approx(np.pi * 20**2 / S**2, rel=0.02)
    assert (found[["apart", "hole", "cut"]] == 0).all()
    full = measured(np.ones((S, S), bool))
    assert full["solidity"] == full["cut"] == full["area"] == 1
    assert full["roundness"] == pytest.approx(3 / np.pi, rel=0.01)  # of a square


def test_holes_parts_and_contact_are_counted_in_pixels():
    ring = disc() & ~disc(5)
    assert measured(ring)["hole"] == pytest.approx(disc(5).sum() / disc().sum())
    assert measured(ring)["area"] == measured(disc())["area"]
    blobs = disc(12, (14, 14)) | disc(6, (38, 38))
    assert measured(blobs)["apart"] == pytest.approx(disc(6).sum() / blobs.sum(), abs=0.01)
    assert measured(disc(20, (24, 0)))["cut"] == pytest.approx(41 / S)
    assert measured(np.eye(S, dtype=bool))["roundness"] < 0.05
    one = measured(disc(0.5))
    assert (one["area"], one["solidity"]) == (1 / S**2, 1)


@pytest.mark.parametrize("turn", range(4))
def test_an_outline_turned_is_the_same_outline(turn):
    mask = (disc(15, (20, 30)) | disc(6, (36, 10))) & ~disc(2, (20, 32))
    pd.testing.assert_series_equal(measured(np.rot90(mask, turn)), measured(mask))


def planted(cells):
    """A cell spoiled in each of the ways that `LIMITS` name."""
    cell = cells[0]
    centre = disc(4, (S // 2, S // 2))
    down, across = np.indices((S, S))
    spoiled = {
        "no foreground": np.zeros_like(cell),
        "hole": np.where(centre, np.uint8(0), cell),
        "several regions": np.where((abs(across - S // 2) < 3), np.uint8(0), cell),
        "cut by the frame": ndimage.zoom(cell, (1, 2, 2), order=1)[:, S // 2 : S // 2 + S, S // 2 : S // 2 + S],
        "too large": np.full_like(cell, 200),
        "too small": ndimage.zoom(np.pad(cell, ((0, 0), (S, S), (S, S))), (1, 1 / 3, 1 / 3), order=1),
        "not round": np.where(abs(down - S // 2) < 4, np.maximum(cell, 60), np.uint8(0)),
        "not solid": np.where((down < S // 4) | (across < S // 4), np.maximum(cell, 60), np.uint8(0)),
    }
    return {name: image.astype(np.uint8) for name, image in spoiled.items()}


def test_cells_of_other_people_are_cells_and_every_planted_kind_is_found(phantoms):
    cells, table = phantoms
    people = table["person"].unique()
    known = table["person"].isin(people[::2]).to_numpy()
    limits = limits_of(outlines(cells[known], BLACK, THRESHOLD))
    others = violations(outlines(cells[~known], BLACK, THRESHOLD), limits)
    assert others.gt(0).any(axis=1).mean() < 0.1
    images = planted(cells)
    assert images.keys() == limits.keys() == {limit.name for limit in LIMITS}
    found = violations(outlines(np.stack(list(images.values())), BLACK, THRESHOLD), limits)
    for (name, _), (_, row) in zip(images.items(), found.iterrows(), strict=True):
        assert row[name] > 0, name
    assert (found.iloc[list(images).index("no foreground")] > 0).sum() == 1  # nothing else is said of nothing


@pytest.fixture
def judged(phantoms):
    cells, table = phantoms
    limits = limits_of(outlines(cells[::2], BLACK, THRESHOLD))
    synthetic = cells[1::4].copy()
    synthetic[:20, :, 20:28, 20:28] = 0
    tables = {"real": table[1::2], "synthetic": table[1::4][["label"]]}
    images = {"real": cells[1::2], "synthetic": synthetic}
    beyond = {side: violations(outlines(found, BLACK, THRESHOLD), limits) for side, found in images.items()}
    return images, beyond, constraint_table(beyond, tables, limits, 0.95)


def test_the_table_has_the_shares_their_intervals_and_the_floor(judged):
    _, beyond, table = judged
    every = table[table["group"] == "all"].set_index("violation")
    assert (
        every["value"]["hole"]
        == pytest.approx(beyond["synthetic"]["hole"].gt(0).mean())
        == 20 / len(beyond["synthetic"])
    )
    assert every["difference_low"]["hole"] > 0
    for name in ("", "floor_", "difference_"):
        value = {"": "value"}.get(name, name[:-1])
        assert ((table[f"{name}low"] <= table[value]) & (table[value] <= table[f"{name}high"])).all()
    assert (every["value"]["any"] >= every["value"].drop("any")).all()
    assert set(table["group"]) == {"all", "Parasitized", "Uninfected"}


def test_the_figure_shows_the_worst_of_every_kind_and_none_where_nothing_is_wrong(judged):
    images, beyond, table = judged
    assert beyond["synthetic"].iloc[worst(beyond["synthetic"], 12)].gt(0).any(axis=1).all()
    assert not beyond["synthetic"].iloc[within(beyond["synthetic"], 12)].gt(0).any(axis=None)
    sides = {side: Side(found, foreground(found, BLACK, THRESHOLD), beyond[side]) for side, found in images.items()}
    figure = constraint_figure(table, sides["real"], sides["synthetic"], "title")
    titles = [axes.get_title() for part in figure.subfigs for axes in part.axes]
    assert "hole" in titles
    nothing = beyond["real"].iloc[:0]
    assert worst(nothing, 3) == within(nothing, 3) == []


def test_images_without_outlines_are_not_measured(phantoms):
    cells, table = phantoms
    limits = limits_of(outlines(cells[:50], BLACK, -1))
    beyond = dict.fromkeys(("real", "synthetic"), violations(outlines(cells[:50], BLACK, -1), limits))
    found = constraint_table(beyond, dict.fromkeys(beyond, table[:50]), limits, 0.95)
    assert found.empty
    side = Side(cells[:50], foreground(cells[:50], BLACK, -1), beyond["real"])
    assert "not measured" in constraint_figure(found, side, side, "title").texts[-1].get_text()


def test_a_difference_of_two_shares_has_the_interval_of_newcombe():
    """Table II of Newcombe 1998, (a): 56/70 less 48/80, method 10; Wilson's intervals are given to it."""
    first, second = (binomtest(*found).proportion_ci(method="wilson") for found in ((56, 70), (48, 80)))
    low, high = difference_interval(0.8, Interval(first.low, first.high), 0.6, Interval(second.low, second.high))
    assert (low, high) == (pytest.approx(0.0524, abs=2e-4), pytest.approx(0.3339, abs=2e-4))


def test_the_difference_holds_the_truth_where_people_differ():
    rng, held = np.random.default_rng(0), 0
    for _ in range(100):
        people = np.repeat(np.arange(25), 20)
        odd = rng.random(500) < rng.beta(1, 30, 25)[people]
        made = rng.random(400) < 1 / 31
        sides = {"real": pd.DataFrame({"hole": odd * 1.0}), "synthetic": pd.DataFrame({"hole": made * 1.0})}
        cells = {
            "real": pd.DataFrame({"label": "A", "person": people.astype(str)}),
            "synthetic": pd.DataFrame({"label": ["A"] * 400}),
        }
        row = constraint_table(sides, cells, {"hole": 0.0}, 0.95).iloc[0]
        held += row["difference_low"] <= 0 <= row["difference_high"]
    assert held >= 92
