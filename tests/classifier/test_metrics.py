"""Metrics of the classifier and their intervals over people."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from malaria_diffusion.classifier.metrics import (
    accuracy_of_groups,
    at_threshold,
    choose_threshold,
    classification_metrics,
    confusion,
    reliability,
)
from malaria_diffusion.errors import UserError


def predictions(rng, people=30, cells=20, right=0.9, of_person=0.0):
    person = np.repeat([f"P{k}" for k in range(people)], cells)
    truth = rng.integers(0, 2, len(person))
    rate = np.clip(right + np.repeat(rng.normal(0, of_person, people), cells), 0, 1)
    correct = rng.random(len(person)) < rate
    guess = np.where(correct, truth, 1 - truth)
    names = np.array(["healthy", "ill"])
    return pd.DataFrame(
        {
            "label": names[truth],
            "predicted": names[guess],
            "person": person,
            "probability": np.clip(guess * 0.5 + rng.random(len(person)) * 0.5, 0, 1),
        }
    ).assign(confidence=lambda table: np.maximum(table["probability"], 1 - table["probability"]))


def measure(table):
    return classification_metrics(table, "ill", 0.95)


def test_values_are_those_of_scikit_learn():
    table = predictions(np.random.default_rng(0))
    truth, guess = table["label"] == "ill", table["predicted"] == "ill"
    found = {name: metric["value"] for name, metric in measure(table).items()}
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(truth, guess),
            "sensitivity": recall_score(truth, guess),
            "specificity": recall_score(~truth, ~guess),
            "f1": f1_score(truth, guess),
            "auc": roc_auc_score(truth, table["probability"]),
            "ece": less_its_bias(table),
        }
    )


def less_its_bias(table):
    without = [torchmetrics_ece(table[table["person"] != person]) for person in table["person"].unique()]
    found = torchmetrics_ece(table)
    return found - (len(without) - 1) * (np.mean(without) - found)


def torchmetrics_ece(table):
    names = sorted(table["label"].unique())
    chosen = table["predicted"].map(names.index).to_numpy()
    probabilities = torch.full((len(table), 2), 0.0, dtype=torch.float64)
    probabilities[torch.arange(len(table)), chosen] = torch.tensor(table["confidence"].tolist(), dtype=torch.float64)
    probabilities[torch.arange(len(table)), 1 - chosen] = torch.from_numpy(1 - table["confidence"].to_numpy())
    truth = torch.from_numpy(table["label"].map(names.index).to_numpy())
    return float(multiclass_calibration_error(probabilities, truth, 2, n_bins=15, norm="l1"))


def test_a_calibrated_classifier_has_a_small_calibration_error_and_a_boastful_one_a_large():
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.5, 1, 20000)
    right = rng.random(20000) < confidence
    table = pd.DataFrame({"label": "ill", "predicted": np.where(right, "ill", "healthy"), "confidence": confidence})
    table["probability"] = np.where(right, confidence, 1 - confidence)
    table["person"] = np.arange(20000).astype(str)
    table.loc[:9, "label"] = "healthy"
    assert measure(table)["ece"]["value"] < 0.01
    boastful = table.assign(confidence=0.5 + confidence / 2)
    assert measure(boastful)["ece"]["value"] == pytest.approx(0.5 - 0.375, abs=0.01)


def test_reliability_counts_every_cell_and_shows_the_boast():
    table = predictions(np.random.default_rng(6), right=0.7)
    bins = reliability(table.assign(confidence=0.95))
    assert bins["cells"].sum() == len(table)
    assert bins["accuracy"].tolist() == [pytest.approx((table["label"] == table["predicted"]).mean())]
    assert bins["confidence"].tolist() == [pytest.approx(0.95)]


def test_the_threshold_is_the_best_on_validation_cells():
    rng = np.random.default_rng(7)
    truth = rng.random(4000) < 0.3
    # two normal scores of equal spread cross half-way between their means
    score = np.clip(np.where(truth, 0.5, 0.2) + rng.normal(0, 0.1, 4000), 0, 1)
    table = pd.DataFrame({"label": np.where(truth, "ill", "healthy"), "probability": score})
    threshold = choose_threshold(table, "ill")
    assert threshold == pytest.approx(0.35, abs=0.03)

    def youden(threshold):
        called = at_threshold(table, "ill", threshold)["predicted"] == "ill"
        return called[truth].mean() - called[~truth].mean()

    assert youden(threshold) == pytest.approx(max(youden(other) for other in score[::40]), abs=0.005)


def test_of_equally_good_thresholds_the_one_nearest_a_half():
    table = pd.DataFrame({"label": ["healthy", "healthy", "ill", "ill"], "probability": [0.1, 0.4, 0.6, 0.9]})
    assert choose_threshold(table, "ill") == 0.6


def test_accuracy_of_each_group_worst_first():
    table = pd.DataFrame(
        {
            "label": list("aaabbb"),
            "predicted": list("aabbbb"),
            "person": ["P1", "P1", "P1", "P2", "P2", ""],
            "smear": ["S1", "S1", "S2", "S2", "S2", ""],
        }
    )
    groups = accuracy_of_groups(table, 0.95)
    found = groups[groups["of"] == "person"]
    assert found["name"].tolist() == ["P1", "P2"]
    assert groups.loc[groups["of"] == "smear", "name"].tolist() == ["S2", "S1"]
    assert found["errors"].tolist() == [1, 0]
    assert found["accuracy"].tolist() == [pytest.approx(2 / 3), 1.0]
    assert ((found["low"] <= found["accuracy"]) & (found["accuracy"] <= found["high"])).all()


def test_one_class_alone_is_refused():
    table = predictions(np.random.default_rng(8))
    with pytest.raises(UserError, match=r"\['ill'\].*test_fraction"):
        measure(table[table["label"] == "ill"])


def test_values_lie_in_their_intervals_and_nothing_is_drawn():
    table = predictions(np.random.default_rng(1))
    first = measure(table)
    assert first == measure(table)
    for metric in first.values():
        assert metric["low"] <= metric["value"] <= metric["high"]


def judged(rng, people, calibrated=True):
    """A good classifier's answers on unequal numbers of cells of people of whom some are harder, a quarter healthy."""
    cells = rng.lognormal(np.log(100), 0.6, people).clip(20, 500).astype(int)
    owner = np.repeat(np.arange(people), cells)
    ill = rng.random(len(owner)) < np.where(rng.random(people) < 0.25, 0, rng.beta(2, 2, people))[owner]
    score = np.where(ill, 2.9, -2.9) + rng.normal(0, 1.7, len(owner)) + rng.normal(0, 0.8, people)[owner]
    probability = 1 / (1 + np.exp(-score * (1 if calibrated else 4)))
    names = np.array(["healthy", "ill"])
    table = pd.DataFrame({"label": names[ill.astype(int)], "predicted": names[(score > 0).astype(int)]})
    confidence = np.maximum(probability, 1 - probability)
    return table.assign(person=owner.astype(str), probability=probability, confidence=confidence)


@pytest.mark.parametrize(("people", "stated"), [(35, 0.92), (15, 0.9)])
def test_intervals_hold_the_truth_of_few_people_who_differ(people, stated):
    """Intervals over cells would fail this, and percentiles of a bootstrap of people would."""
    rng = np.random.default_rng(2)
    truth = {name: metric["value"] for name, metric in measure(judged(rng, 4000)).items()}
    trials, held = 80, dict.fromkeys(truth, 0)
    for _ in range(trials):
        for name, metric in measure(judged(rng, people)).items():
            held[name] += metric["low"] <= truth[name] <= metric["high"]
    assert min(held.values()) >= stats.binom.ppf(0.001, trials, stated)
    assert np.mean(list(held.values())) >= stated * trials - 4


def test_perfect_and_one_sided_answers_give_numbers():
    table = predictions(np.random.default_rng(3), right=1.0)
    accuracy = measure(table)["accuracy"]
    assert (accuracy["value"], accuracy["high"]) == (1.0, 1.0)
    assert accuracy["low"] == pytest.approx(0.025 ** (1 / 30))  # all of thirty people
    table["predicted"] = "healthy"
    metrics = measure(table)
    assert (metrics["sensitivity"]["value"], metrics["specificity"]["value"], metrics["f1"]["value"]) == (0, 1, 0)


def test_one_person_makes_no_interval():
    accuracy = measure(predictions(np.random.default_rng(4), people=1))["accuracy"]
    assert (accuracy["low"], accuracy["high"]) == (0, 1)


def test_confusion_counts_every_cell_in_its_place():
    table = pd.DataFrame({"label": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
    assert confusion(table, ["a", "b"]).to_numpy().tolist() == [[1, 1], [0, 1]]
