"""The audit of novelty: it finds memory and copies, and cries wolf no more often than it says."""

import json
from math import comb

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from malaria_diffusion.cells.phantom.draw import PhantomParameters, phantom_cells
from malaria_diffusion.questions.privacy.figure import closest_pairs, nearest_distances
from malaria_diffusion.questions.privacy.novelty import (
    COPIES,
    NEAR_COPIES,
    PLANTED,
    matched_draws,
    plant_copies,
    privacy_audit,
)
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.nearest import dihedral, pixel_vectors

from ..toys import toy

SIZE = 16
RESAMPLES = 400


def toy_cells(rng, people, each):
    """Discs of a stain for each person and a random pattern for each cell."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    number = people * each
    stain = rng.normal(140, 40, (people, 3)).repeat(each, axis=0)[:, :, None, None]
    pattern = rng.normal(0, 25, (number, 3, 4, 4)).repeat(4, axis=2).repeat(4, axis=3)
    noise = rng.normal(0, 5, (number, 3, SIZE, SIZE))
    cells = (stain + pattern + noise).clip(1, 255) * (rows**2 + columns**2 < 45)
    names = np.repeat([f"P{k}" for k in range(people)], each)
    return cells.astype(np.uint8), pd.DataFrame({"person": names, "label": rng.choice(["A", "B"], number)})


def divide(cells, table, sizes, rng):
    """Synthetic, members and non-members, `sizes` of the first and the last, of the same people at random."""
    rows = rng.permutation(len(cells))
    synthetic, unseen, members = np.split(rows, np.cumsum(sizes))
    return {
        "synthetic": cells[synthetic],
        "labels": table["label"].to_numpy(dtype=str)[synthetic],
        "members": cells[members],
        "member_table": table.iloc[members],
        "unseen": cells[unseen],
        "unseen_table": table.iloc[unseen],
    }


def audit(rng, embeddings=None, **sides):
    synthetic = toy(sides["synthetic"], pd.DataFrame({"label": sides["labels"]}))
    members, unseen = toy(sides["members"], sides["member_table"]), toy(sides["unseen"], sides["unseen_table"])
    return privacy_audit(synthetic, members, unseen, embeddings or {}, Bootstrap(RESAMPLES, 0.95, rng))


def toy_sides(seed, people=20, each=20, sizes=(80, 80)):
    rng = np.random.default_rng(seed)
    return divide(*toy_cells(rng, people, each), sizes, rng), rng


@pytest.fixture(scope="module")
def phantom():
    parameters = PhantomParameters(infected_people=14, healthy_people=6, cells_per_person=24)
    drawn = list(phantom_cells(parameters))
    cells = np.stack([np.asarray(Image.fromarray(cell.image).resize((32, 32))) for cell in drawn])
    table = pd.DataFrame({"person": [cell.person for cell in drawn], "label": [cell.label for cell in drawn]})
    return np.ascontiguousarray(cells.transpose(0, 3, 1, 2)), table


def everything(result):
    """All numbers of a result."""
    tables = [table for table in result[1:] if len(table)]
    return np.concatenate([table.select_dtypes("number").to_numpy(dtype=float).ravel() for table in tables])


@pytest.fixture(scope="module")
def fresh_audits():
    """Of new cells of the same people."""
    results = []
    for seed in range(40):
        sides, rng = toy_sides(seed)
        results.append(audit(rng, **sides))
    return results


def test_the_interval_holds_one_half_for_new_cells(fresh_audits):
    rows = [result.comparison.iloc[0] for result in fresh_audits]
    missed = sum(not row["low"] <= 0.5 <= row["high"] for row in rows)
    assert missed <= stats.binom.ppf(0.999, len(rows), 0.05)
    shares = [row["share"] for row in rows]
    assert abs(np.mean(shares) - 0.5) < 4 * np.std(shares) / np.sqrt(len(rows))
    assert 0.01 < np.mean([row["high"] - row["low"] for row in rows]) < 0.3
    assert abs(np.mean([row["distance_ratio"] for row in rows]) - 1) < 0.01


def test_false_alarms_come_at_the_stated_rate(fresh_audits):
    rows = [result.copies.iloc[0] for result in fresh_audits]
    rate, n = rows[0]["false_alarm_rate"], rows[0]["n"]
    assert rate == 1 / 81
    for result, row in zip(fresh_audits, rows, strict=True):
        assert row["threshold"] == result.calibration["relative_distance"].min()
        # that all of the c smallest of both sides are new ones
        assert row["p_value"] == pytest.approx(comb(n, row["flagged"]) / comb(n + 80, row["flagged"]))
    flagged = [row["flagged"] for row in rows]
    spread = np.sqrt(stats.betabinom(n, 1, 80).var() / len(rows))
    assert abs(np.mean(flagged) - n * rate) < 3.5 * spread
    assert sum(row["p_value"] < 0.05 for row in rows) <= stats.binom.ppf(0.999, len(rows), 0.05)


def test_a_model_that_memorises_is_found():
    sides, rng = toy_sides(100)
    source = rng.choice(len(sides["members"]), 80)
    noisy = sides["members"][source] + rng.normal(0, 4, (80, 3, SIZE, SIZE))
    sides["synthetic"] = dihedral(noisy.clip(0, 255).astype(np.uint8))[5]
    result = audit(rng, **sides)
    assert (result.comparison["low"] > 0.5).all()
    assert (result.comparison["verdict"] == "nearer to members").all()
    assert (result.comparison["distance_ratio"] < 0.95).all()
    assert (result.copies["verdict"] == "copies found").all()
    assert result.copies.loc[0, "share"] > 0.95
    pairs = result.closest
    assert (pairs["member"].to_numpy() == sides["member_table"].index[source[pairs["synthetic"]]]).all()
    assert (pairs["person"].to_numpy() == sides["member_table"]["person"].to_numpy()[source[pairs["synthetic"]]]).all()


def test_one_copy_in_a_hundred_is_found_among_new_cells():
    sides, rng = toy_sides(101, each=40, sizes=(200, 300))
    places = rng.choice(200, 8, replace=False)
    sides["synthetic"][places] = dihedral(sides["members"][:8])[3]
    result = audit(rng, **sides)
    assert set(places) <= set(result.distances.loc[result.distances["copy"], "synthetic"])
    assert result.copies.loc[0, "verdict"] == "copies found"
    found = result.closest.set_index("synthetic").loc[places]
    assert (found["distance"] == 0).all()
    turned_back = dihedral(sides["synthetic"][places])[found["transform"], np.arange(8)]
    assert (turned_back == sides["members"][:8]).all()


def test_planted_copies_of_phantom_cells_are_caught(phantom):
    rng = np.random.default_rng(0)
    sides = divide(*phantom, (40, 100), rng)
    sides["synthetic"], kinds = plant_copies(sides["members"], 0.3, rng)
    sides["labels"] = np.full(len(kinds), "Parasitized")
    result = audit(rng, **sides)
    caught = result.distances.groupby(kinds)["copy"].mean()
    assert (caught[["exact", "turned or mirrored", "JPEG"]] == 1).all()
    assert caught["shifted by 1 px"] > 0.8
    assert (caught[["enlarged by 6 %", "turned by 15 degrees"]] > 0.5).all()
    power = pd.DataFrame(row for row in result.summary["power"] if row["space"] == "any").set_index("kind")
    assert list(power.index) == [*PLANTED, "all"]
    assert power.loc["all", "planted"] == power.loc[list(COPIES), "planted"].sum() == 8
    assert (power.loc[list(NEAR_COPIES), "planted"] == 2).all()
    assert power.loc["all", "caught"] >= 7


def test_planted_copies_are_of_their_kind(phantom):
    members = phantom[0][:40]
    copies, kinds = plant_copies(members, 1.0, np.random.default_rng(0))
    same = (copies == members).all(axis=(1, 2, 3))
    assert same[kinds == "exact"].all()
    assert not same[kinds != "exact"].any()
    for copy, member in zip(copies[kinds == "turned or mirrored"], members[kinds == "turned or mirrored"], strict=True):
        assert (dihedral(copy) == member).all(axis=(1, 2, 3)).any()
    difference = np.abs(copies.astype(int) - members)[kinds == "JPEG"].mean(axis=(1, 2, 3))
    assert (difference < 20).all()
    for copy, member in zip(copies[kinds == "shifted by 1 px"], members[kinds == "shifted by 1 px"], strict=True):
        steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
        inner = [(np.roll(member, step, axis=(1, 2)) == copy)[:, 1:-1, 1:-1].all() for step in steps]
        assert any(inner)


def test_near_copies_are_of_their_kind():
    """A bright square on black, off the middle."""
    members = np.zeros((60, 3, 32, 32), np.uint8)
    members[:, :, 8:20, 10:22] = 200
    copies, kinds = plant_copies(members, 1.0, np.random.default_rng(0))
    light = {kind: copies[kinds == kind].astype(float) for kind in NEAR_COPIES}
    area = {kind: images.mean(axis=(1, 2, 3)) / members[0].mean() for kind, images in light.items()}
    assert area["enlarged by 6 %"] == pytest.approx(1.06**2, abs=0.03)
    assert area["turned by 15 degrees"] == pytest.approx(1, abs=0.02)
    assert area["shifted by 3 px"] == pytest.approx(1)
    assert area["blurred"] == pytest.approx(1, abs=0.01)
    assert area["blended 60:40"] == pytest.approx(1, abs=0.01)  # all members are alike
    assert ((area["tinted"] > 0.84) & (area["tinted"] < 1)).all()

    def middle(images):
        places = np.arange(32)
        mass = images[:, 0] / images[:, 0].sum(axis=(1, 2), keepdims=True)
        return np.stack([(mass.sum(axis=2) @ places), (mass.sum(axis=1) @ places)], axis=1)

    moved = np.abs(middle(light["shifted by 3 px"]) - middle(members[:1].astype(float)))
    assert set(np.unique(moved.round(6))) <= {0.0, 3.0} and (moved.max(axis=1) == pytest.approx(3))
    corner = np.abs(light["turned by 15 degrees"] - members[0]).mean()
    assert 1 < corner < 20
    assert np.abs(np.diff(light["blurred"], axis=-1)).max() < np.abs(np.diff(members[0].astype(float), axis=-1)).max()


def test_turning_all_synthetic_cells_changes_nothing():
    sides, _ = toy_sides(102)
    one = audit(np.random.default_rng(0), **sides)
    sides["synthetic"] = dihedral(sides["synthetic"])[6]
    other = audit(np.random.default_rng(0), **sides)
    pd.testing.assert_frame_equal(one.comparison, other.comparison, atol=1e-6)
    pd.testing.assert_frame_equal(one.copies, other.copies)
    assert (one.closest["member"] == other.closest["member"]).all()


def test_the_search_finds_what_looking_at_every_pair_finds():
    sides, rng = toy_sides(103, people=8, each=12, sizes=(6, 24))
    flat = {
        "features": lambda cells: cells.reshape(len(cells), -1).astype(np.float64),
    }
    result = audit(rng, flat, **sides)
    turned = dihedral(sides["synthetic"]).reshape(8, 6, 1, -1).astype(float)
    distance = np.sqrt(np.square(turned - sides["members"].reshape(1, 1, len(sides["members"]), -1)).mean(axis=3))
    found = result.closest[result.closest["space"] == "features"].set_index("synthetic").sort_index()
    assert found["distance"].to_numpy() == pytest.approx(distance.min(axis=(0, 2)), rel=1e-5)
    nearest = sides["member_table"].index[distance.min(axis=0).argmin(axis=1)]
    assert (found["member"].to_numpy() == nearest).all()
    ordered = np.sort(distance.min(axis=0), axis=1)
    assert found["relative_distance"].to_numpy() == pytest.approx(ordered[:, 0] / ordered[:, 1:10].mean(axis=1))


def test_more_held_out_cells_make_a_lower_rate():
    sides, rng = toy_sides(113, each=40, sizes=(20, 500))
    result = audit(rng, **sides)
    row, known = result.copies.iloc[0], np.sort(result.calibration["relative_distance"])
    assert row["false_alarm_rate"] == 2 / 501
    assert row["threshold"] == known[1]


def test_a_copy_seen_in_one_space_only_is_a_copy():
    sides, rng = toy_sides(104)
    sides["synthetic"][:20] = 255 - sides["members"][:20]

    def blind(cells):  # does not tell an image from its negative
        return np.abs(cells.astype(float) - 127.5).reshape(len(cells), -1)

    result = audit(rng, {"blind": blind}, **sides)
    by_space = result.copies.set_index("space")
    assert by_space.loc["pixels", "flagged"] < 10
    assert by_space.loc["blind", "flagged"] >= 20
    assert by_space.loc["any", "flagged"] >= 20
    assert by_space.loc["any", "expected_false_alarms"] == pytest.approx(
        by_space.loc[["pixels", "blind"], "expected_false_alarms"].sum()
    )
    assert by_space.loc["any", "verdict"] == "copies found"


def test_matched_sets_have_the_same_people_and_classes():
    sides, rng = toy_sides(105)
    members, unseen = sides["member_table"], sides["unseen_table"]
    draws, by = matched_draws(members, unseen, 3, rng)
    assert by == "person and label"
    for chosen, held_out in draws:
        assert len(set(chosen)) == len(chosen) == len(held_out) == len(set(held_out))
        assert (members.iloc[chosen].to_numpy() == unseen.iloc[held_out].to_numpy()).all()
    assert (draws[0][0] != draws[1][0]).any()


def test_without_names_of_people_sets_are_matched_by_class():
    sides, rng = toy_sides(106)
    for table in ("member_table", "unseen_table"):
        sides[table] = sides[table].assign(person=[f"{table} {k}" for k in range(len(sides[table]))])
    result = audit(rng, **sides)
    assert result.summary["matched_by"] == "label"
    assert result.summary["matched_cells"] == 80
    assert result.comparison.loc[0, "low"] < 0.5 < result.comparison.loc[0, "high"]


def test_without_held_out_cells_it_says_that_it_cannot_tell(tmp_path):
    sides, rng = toy_sides(107)
    for few in (sides["unseen_table"].iloc[:0], sides["unseen_table"].iloc[:19]):
        result = audit(rng, **sides | {"unseen": sides["unseen"][: len(few)], "unseen_table": few})
        assert not result.summary["testable"]
        assert "audit_fraction" in result.summary["reason"]
        assert len(result.closest) == 10
        assert not result.closest["copy"].any()
        assert result.comparison.empty
        json.dumps(result.summary, allow_nan=False)
        nearest_distances(result).savefig(tmp_path / "not testable.png")


def test_few_cells_and_one_class_make_a_result():
    sides, rng = toy_sides(108)
    result = audit(rng, **sides | {"synthetic": sides["synthetic"][:3], "labels": np.full(3, "B")})
    assert list(result.comparison["group"]) == ["all", "B"]
    assert len(result.closest) == 3
    assert np.isfinite(everything(result)).all()
    json.dumps(result.summary, allow_nan=False)


@pytest.mark.parametrize("black", [["synthetic"], ["synthetic", "members", "unseen"]])
def test_black_images_make_no_copies_and_no_nan(black):
    sides, rng = toy_sides(109)
    for side in black:
        sides[side] = np.zeros_like(sides[side])
    result = audit(rng, **sides)
    assert np.isfinite(everything(result)).all()
    assert result.copies.loc[0, "flagged"] == 0
    if len(black) == 3:
        assert (result.comparison["share"] == 0.5).all()
        assert (result.comparison["distance_ratio"] == 1).all()


def test_the_same_seed_gives_the_same_numbers():
    sides, _ = toy_sides(110)
    one, other = (audit(np.random.default_rng(5), **sides) for _ in range(2))
    assert one.summary == other.summary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sides: {"synthetic": sides["synthetic"][..., :8, :8]}, "different sizes"),
        (lambda sides: {"synthetic": sides["synthetic"][:0], "labels": sides["labels"][:0]}, "sampling.count"),
        (lambda sides: {"labels": np.full(80, "C")}, r"class \['C'\]"),
        (lambda sides: {"labels": sides["labels"][:-1]}, "one row"),
        (lambda sides: {"embeddings": {"bad": lambda cells: np.full((len(cells), 2), np.nan)}}, "'bad' must be finite"),
        (lambda sides: {"embeddings": {"bad": lambda cells: np.ones((1, 2))}}, "one row for each"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    sides, rng = toy_sides(111)
    with pytest.raises(ValueError, match=message):
        audit(rng, **sides | change(sides))


def test_pixel_vectors_are_averages_and_do_not_feel_shifts():
    rng = np.random.default_rng(0)
    cells = np.zeros((5, 3, 48, 48), dtype=np.uint8)
    cells[:, :, 10:34, 12:36] = rng.integers(50, 255, (5, 3, 24, 24))
    vectors = pixel_vectors(cells)
    assert vectors.shape == (5, 3 * 16 * 16)
    assert vectors.mean(axis=1) == pytest.approx(cells.mean(axis=(1, 2, 3)), rel=1e-4)
    assert pixel_vectors(np.roll(cells, (3, -2), axis=(2, 3))) == pytest.approx(vectors)
    flat = pixel_vectors(np.full((1, 3, 24, 24), 9, dtype=np.uint8))
    assert flat == pytest.approx(9)


def test_figures_show_a_result(tmp_path):
    sides, rng = toy_sides(112)
    flat = {"features": lambda cells: cells.mean(axis=(2, 3))}
    result = audit(rng, flat, **sides)
    cells = np.zeros((400, 3, SIZE, SIZE), dtype=np.uint8)
    for figure in (nearest_distances(result), closest_pairs(sides["synthetic"], cells, result.closest)):
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 5000
