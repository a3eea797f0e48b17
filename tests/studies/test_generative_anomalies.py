"""Cells unlike any in training: what is planted, and which scores find it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from malaria_diffusion.studies.generative.anomalies import (
    LIKELIHOOD,
    MAHALANOBIS,
    TWO_SIDED,
    UNTOUCHED,
    Detector,
    anomaly_table,
    planted_kinds,
)

from ..toys import toy
from .gaussian_classes import SIDE, class_means, fitted


@pytest.fixture(scope="module")
def two():
    return fitted(2)


def test_anomalies_score_higher_but_the_likelihood_takes_the_smooth_for_the_likely(two):
    model, test = two
    rng = np.random.default_rng(0)
    # class means of themselves: nothing is likelier, and no cell is like them
    smooth = np.repeat((127.5 * (class_means(2)[:1] + 1)).round().astype(np.uint8), 40, axis=0)
    rough = rng.integers(0, 256, size=(40, 3, SIDE, SIDE), dtype=np.uint8)
    detector = Detector.fit(model, 3)
    usual = detector.scores(model.typicality(test.pixels, test.places, 3))
    auc = {}
    for kind, pixels in (("smooth", smooth), ("rough", rough)):
        scores = detector.scores(model.typicality(pixels, np.arange(40), 3))
        truth = np.repeat([0, 1], [len(test), 40])
        auc[kind] = {name: roc_auc_score(truth, np.concatenate([usual[name], scores[name]])) for name in scores}
    assert all(value > 0.95 for value in auc["rough"].values())
    assert auc["smooth"][LIKELIHOOD] < 0.1
    assert auc["smooth"][TWO_SIDED] > 0.9
    assert auc["smooth"][MAHALANOBIS] > 0.9


def test_the_table_of_anomalies_counts_false_alarms_and_has_intervals(two):
    model, test = two
    kinds = planted_kinds(test[:60], 0, seed=0)
    losses = {kind: model.typicality(each.pixels, each.keys, 1) for kind, each in kinds.items()}
    table = anomaly_table(Detector.fit(model, 1), kinds, losses, 0.95)
    untouched = table[table["kind"] == UNTOUCHED]
    assert untouched["auc"].isna().all()
    assert (untouched["flagged"] < 0.25).all()
    found = table[table["kind"] != UNTOUCHED]
    assert ((found["low"] <= found["auc"]) & (found["auc"] <= found["high"])).all()
    assert (table[table["kind"] == "digits"]["auc"] > 0.9).all()


def test_planted_kinds_are_what_they_are_called():
    rng = np.random.default_rng(0)
    pixels = np.zeros((24, 3, 16, 16), np.uint8)
    pixels[:, :, 3:13, 3:13] = rng.integers(60, 250, size=(24, 3, 10, 10))
    labels = pd.DataFrame({"label": ["a", "b"] * 12, "person": [f"p{k % 4}" for k in range(24)]})
    kinds = {name: each.pixels for name, each in planted_kinds(toy(pixels, labels), 30, seed=0).items()}
    inside = np.zeros((16, 16), bool)
    inside[3:13, 3:13] = True
    for kind in ("blurred", "one colour", "colours inverted", "red and blue swapped"):
        assert (kinds[kind][:, :, ~inside] == 0).all(), kind  # the background is left as it is
    rim = inside & ~np.pad(np.ones((8, 8), bool), 4)
    for kind in ("blurred", "one colour"):
        assert (kinds[kind][:, :, rim] == pixels[:, :, rim]).all()  # whose mixture of cell and background would tell
    inside &= ~rim
    cell, blurred = pixels[:, :, inside].astype(float), kinds["blurred"][:, :, inside].astype(float)
    assert (blurred.std(axis=2) < 0.9 * cell.std(axis=2)).all()
    assert np.abs(blurred.mean(axis=2) - cell.mean(axis=2)).max() < 6
    assert (kinds["one colour"][:, :, inside].std(axis=2) == 0).all()
    assert (kinds["red and blue swapped"][:, 0] == pixels[:, 2]).all()
    outside = (kinds["out of frame"] > 0).any(axis=1).sum((1, 2))
    assert np.allclose(outside, (pixels > 0).any(axis=1).sum((1, 2)) / 2)
    assert len({name: each.tobytes() for name, each in kinds.items()}) == 8
    assert kinds["phantom cells"].shape == kinds["digits"].shape == pixels.shape
