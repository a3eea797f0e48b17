"""Recognised as intended: synthetic cells beside real ones."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.questions.recognition.measure import recognised_as_intended

from ..classifier.test_metrics import predictions


def synthetic_like(table, right, rng):
    table = table.drop(columns="person")
    other = {"ill": "healthy", "healthy": "ill"}
    correct = rng.random(len(table)) < right
    return table.assign(predicted=np.where(correct, table["label"], table["label"].map(other)))


@pytest.mark.parametrize(("right", "verdict"), [(0.99, "above"), (0.8, "below"), (0.9, "as real")])
def test_recognition_is_compared_with_that_of_real_cells(right, verdict):
    rng = np.random.default_rng(0)
    real = predictions(rng, people=200, cells=100)
    found = recognised_as_intended(real, synthetic_like(real, right, rng), 0.95).set_index("group")
    assert found["verdict"].tolist() == [verdict] * 3
    assert found.loc["all", "real"] == (real["label"] == real["predicted"]).mean()
    assert ((found["low"] <= found["difference"]) & (found["difference"] <= found["high"])).all()
    ill = real[real["label"] == "ill"]
    assert found.loc["ill", "real"] == (ill["label"] == ill["predicted"]).mean()


def share_as_real(seed, right, trials=60):
    """Of generators that are right so often, judged beside cells of 35 people."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(trials):
        real = predictions(rng, people=35, cells=15, right=0.93, of_person=0.05)
        found.append(recognised_as_intended(real, synthetic_like(real, right, rng), 0.95))
    return np.mean([table["verdict"].iloc[0] == "as real" for table in found])


def test_a_perfect_generator_can_be_as_real_and_one_that_is_six_points_off_hardly():
    assert share_as_real(20, right=0.925) >= 0.6
    assert share_as_real(21, right=0.865) <= 0.1


def test_few_people_cannot_tell():
    rng = np.random.default_rng(1)
    real = predictions(rng, people=8, cells=50, of_person=0.1)
    found = recognised_as_intended(real, synthetic_like(real, 0.9, rng), 0.95)
    assert found["verdict"].iloc[0] == "cannot tell"


@pytest.mark.parametrize("few", [10, 400])
def test_a_rate_of_one_has_an_interval_too_and_few_cells_are_not_called_as_real(few):
    cells = pd.DataFrame({"label": "ill", "predicted": "ill", "person": [str(n % 100) for n in range(few)]})
    row = recognised_as_intended(cells, cells, 0.95).iloc[0]
    assert row["low"] < row["difference"] == 0 < row["high"]
    assert (row["low"] < -0.05) == (few == 10)
    assert (row["verdict"] == "as real") == (few == 400)
