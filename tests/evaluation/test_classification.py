"""Metrics of the classifier and their intervals over people."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score

from malaria_diffusion.evaluation.classification import classification_metrics, confusion, recognised_as_intended


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
    )


def measure(table, resamples=300, seed=0):
    return classification_metrics(table, "ill", resamples, 0.95, seed)


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
        }
    )


def test_values_lie_in_their_intervals_and_seeds_repeat():
    table = predictions(np.random.default_rng(1))
    first = measure(table)
    assert first == measure(table)
    for metric in first.values():
        assert metric["low"] <= metric["value"] <= metric["high"]


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Coverage of the accuracy's interval when people differ; intervals over cells would fail this."""
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(100):
        accuracy = measure(predictions(rng, people=40, cells=10, right=0.8, of_person=0.1), 200, seed)["accuracy"]
        held += accuracy["low"] <= 0.8 <= accuracy["high"]
    assert held >= 85


def test_perfect_and_one_sided_answers_give_numbers():
    table = predictions(np.random.default_rng(3), right=1.0)
    assert measure(table)["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    table["predicted"] = "healthy"
    metrics = measure(table)
    assert (metrics["sensitivity"]["value"], metrics["specificity"]["value"], metrics["f1"]["value"]) == (0, 1, 0)


def test_confusion_counts_every_cell_in_its_place():
    table = pd.DataFrame({"label": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
    assert confusion(table, ["a", "b"]).to_numpy().tolist() == [[1, 1], [0, 1]]


def test_recognised_as_intended_by_class():
    table = pd.DataFrame({"label": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
    assert recognised_as_intended(table) == {"all": pytest.approx(2 / 3), "a": 0.5, "b": 1.0}
