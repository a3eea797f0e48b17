"""Scores: closed forms, intervals that hold what is there, and verdicts that claim no more than was shown."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from malaria_diffusion.statistics.bootstrap import Interval
from malaria_diffusion.studies.reader.figure import readers_figure
from malaria_diffusion.studies.reader.score import score_readers, sentence, verdict

from .toys import a_key, answered, file_of

KEY = a_key(people=12, cells=24)
KINDS = np.array([cell.kind for cell in KEY.cells])
LABELS = np.array([cell.label for cell in KEY.cells])
REAL = KINDS == "real"
OTHER = {"real": "synthetic", "synthetic": "real", "ill": "well", "well": "ill"}


def exchanged(said, where):
    return np.where(where, [OTHER[one] for one in said], said)


def indexed(scores, reader="all readers"):
    return scores[scores["reader"] == reader].set_index(["measure", "group"])


def scored(folder, key, *files):
    return score_readers(answered(folder, key, *files), key)


def test_a_perfect_reader_is_right_everywhere_and_tells_them_apart(tmp_path):
    scores = scored(tmp_path, KEY, file_of(KEY, "one", KINDS, seconds=2.5))
    found = indexed(scores)
    shares = found.drop(index=("seconds a cell", "all"))
    assert (shares[["value", "high", "lowest", "highest"]] == 1).all(axis=None)
    exact = binomtest(36, 36).proportion_ci(0.95)  # 12 people and 24 images, each of as many cells
    assert found.loc[("accuracy", "all"), "low"] == pytest.approx(exact.low, abs=0.02)
    assert found.loc[("seconds a cell", "all"), "value"] == 2.5
    assert sentence(scores).startswith("told apart: 1 reader was right on 1.000")


def test_measures_are_the_shares_that_their_names_say(tmp_path):
    rng = np.random.default_rng(0)
    kinds, labels = exchanged(KINDS, rng.random(48) < 0.4), exchanged(LABELS, rng.random(48) < 0.3)
    found = indexed(scored(tmp_path, KEY, file_of(KEY, "one", kinds, labels)))["value"]
    right, seen = kinds == KINDS, labels == LABELS
    assert found["accuracy", "all"] == pytest.approx(right.mean())
    for group, inside in {"all": REAL | ~REAL, "ill": LABELS == "ill", "well": LABELS == "well"}.items():
        assert found["real called real", group] == pytest.approx(right[REAL & inside].mean())
        assert found["synthetic called synthetic", group] == pytest.approx(right[~REAL & inside].mean())
        assert found["class of real cells", group] == pytest.approx(seen[REAL & inside].mean())
        assert found["class of synthetic cells", group] == pytest.approx(seen[~REAL & inside].mean())


def test_a_reader_who_says_one_thing_always_is_at_one_half_whatever_is_missing(tmp_path):
    lazy = file_of(KEY, "lazy", ["real"] * 48)
    lazy["answers"] = [answer for answer, real in zip(lazy["answers"], REAL, strict=True) if real] + [
        answer for answer, real in zip(lazy["answers"], REAL, strict=True) if not real
    ][:5]
    found = indexed(scored(tmp_path, KEY, lazy))
    assert found.loc[("accuracy", "all"), "value"] == 0.5
    assert (found["missing"] == 19).all()
    assert found.loc[("synthetic called synthetic", "all"), "units"] == 5


def test_of_what_nobody_has_answered_nothing_is_said(tmp_path):
    file = file_of(KEY, "one", KINDS)
    file["answers"] = [answer for answer, real in zip(file["answers"], REAL, strict=True) if real]
    scores = scored(tmp_path, KEY, file)
    found = indexed(scores)
    assert found.loc[("real called real", "all"), "value"] == 1
    assert (
        found.loc[[("accuracy", "all"), ("synthetic called synthetic", "ill")], ["value", "low", "high"]]
        .isna()
        .all(axis=None)
    )
    assert found.loc[("accuracy", "all"), "verdict"] == "not decided"


def test_readers_together_are_their_mean_with_their_spread_and_a_wider_interval_where_they_differ(tmp_path):
    rng = np.random.default_rng(1)
    files = [file_of(KEY, name, exchanged(KINDS, rng.random(48) < wrong)) for name, wrong in (("a", 0.1), ("b", 0.4))]
    scores = scored(tmp_path, KEY, *files)
    each = [indexed(scores, name).loc[("accuracy", "all")] for name in "ab"]
    together = indexed(scores).loc[("accuracy", "all")]
    assert together["value"] == pytest.approx(np.mean([one["value"] for one in each]))
    assert sentence(scores).endswith("1 of 2 told them apart alone")
    assert (together["lowest"], together["highest"]) == (each[1]["value"], each[0]["value"])
    same = [file_of(KEY, name, [answer["kind"] for answer in files[0]["answers"]]) for name in "ab"]
    agreed = indexed(scored(tmp_path / "same", KEY, *same)).loc[("accuracy", "all")]
    assert (agreed["low"], agreed["high"]) == pytest.approx((each[0]["low"], each[0]["high"]))
    assert together["high"] - together["low"] > 1.5 * (agreed["high"] - agreed["low"])


@pytest.mark.parametrize(("taste", "binomial_holds"), [(0.0, True), (3.0, False)])
def test_the_interval_of_one_who_guesses_holds_one_half_also_where_cells_of_a_person_get_one_guess(
    taste, binomial_holds
):
    """`taste`: the deviation between people of the logit with which their cells are called real."""
    key, rng = a_key(people=8, cells=40, classes=["cell"]), np.random.default_rng(2)
    table = pd.DataFrame([cell.model_dump() for cell in key.cells])
    table = table.assign(reader="one", said_label="cell", seconds=1.0)
    unit = np.unique(table["unit"], return_inverse=True)[1]
    held, binomial = [], []
    for _ in range(300):
        real = rng.logistic(size=80) < taste * rng.normal(size=unit.max() + 1)[unit]
        scores = score_readers(table.assign(said_kind=np.where(real, "real", "synthetic")), key)
        low, high = scores.loc[0, ["low", "high"]]
        held.append(low <= 0.5 <= high)
        right = int((real == (table["kind"] == "real")).sum())
        exact = binomtest(right, 80).proportion_ci(0.95)
        binomial.append(exact.low <= 0.5 <= exact.high)
    assert 0.92 <= np.mean(held) <= 0.99
    assert (np.mean(binomial) > 0.92) == binomial_holds


@pytest.mark.parametrize(
    ("accuracy", "classes", "said"),
    [
        ((0.51, 0.6), (0.8, 0.9), "told apart"),
        ((0.51, 0.55), (0.8, 0.9), "told apart"),  # by little, but told
        ((0.3, 0.49), (0.8, 0.9), "told apart, with the names exchanged"),
        ((0.42, 0.58), (0.8, 0.9), "no better than chance, within the margin of 0.1"),
        ((0.42, 0.61), (0.8, 0.9), "not decided"),
        ((0.39, 0.58), (0.8, 0.9), "not decided"),
        ((0.42, 0.58), (0.45, 0.6), "not decided"),  # who does not see the classes may not have looked
        ((0.42, 0.58), None, "not decided"),
        ((np.nan, np.nan), (0.8, 0.9), "not decided"),
    ],
)
def test_verdicts(accuracy, classes, said):
    assert verdict(Interval(*accuracy), classes and Interval(*classes), KEY) == said


def test_one_class_asks_for_no_class(tmp_path):
    key = a_key(people=12, classes=["cell"])
    found = indexed(scored(tmp_path, key, file_of(key, "one", ["real"] * 24)))
    assert set(found.index) == {
        (name, "all") for name in ("accuracy", "real called real", "synthetic called synthetic", "seconds a cell")
    }


@pytest.mark.parametrize(("classes", "panels"), [(["cell"], 2), (["ill", "well"], 3), (list("abc"), 3)])
def test_the_figure_has_a_row_for_each_reader(tmp_path, classes, panels):
    key = a_key(people=12, classes=classes)
    files = [file_of(key, name, ["real", "synthetic"] * 6) for name in ("first", "second")]
    scores = scored(tmp_path, key, *files)
    figure = readers_figure(scores, key)
    figure.canvas.draw()
    assert len(figure.axes) == panels
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["all readers", "first", "second"]
    assert figure.get_suptitle() == sentence(scores)
