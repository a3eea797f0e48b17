"""The diffusion model as a classifier: with an exact denoiser it is Bayes's, and what it saves and shows is its own."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import log_softmax

from malaria_diffusion.cells.lineage import LineageError
from malaria_diffusion.diffusion.sampling import Denoiser
from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.generative.classifier import GenerativeClassifier, check_model, some_of_each
from malaria_diffusion.studies.generative.elimination import eliminate
from malaria_diffusion.studies.generative.losses import PairedDenoising, levels_at
from malaria_diffusion.studies.generative.maps import explain
from malaria_diffusion.studies.generative.panel import FITTED, MODEL, YOLO, Panel, agreement, cost, judged_table
from malaria_diffusion.studies.generative.rule import (
    Level,
    PairedLogit,
    Question,
    Rule,
    check_validation_cells,
    choose_rule,
    scores_of,
)

from ..toys import toy
from .gaussian_classes import (
    CPU,
    DEVIATION,
    PARAMETERS,
    PROCESS,
    SIDE,
    Exact,
    bayes,
    denoiser_of,
    fitted,
    gaussian_cells,
)


@pytest.fixture(scope="module")
def two():
    return fitted(2)


def test_the_paired_losses_of_all_levels_are_the_log_odds_of_bayes():
    """Half the integral of their difference over the log-SNR (Kingma et al. 2021, eq. 15)."""
    cells = gaussian_cells(12, 2)
    denoising = PairedDenoising(denoiser_of(2), CPU, 256, 0)
    levels, draws = levels_at(PROCESS, list(np.arange(-10, 9.3, 0.4))), 60
    asked = np.ones((len(cells), 2), bool)
    apart = np.zeros((len(cells), len(levels)))
    for place, level in enumerate(levels):
        for draw in range(draws):
            losses = denoising.losses(cells.pixels, cells.places, Question(level.t, draw), asked)
            apart[:, place] += (losses[:, 1] - losses[:, 0]) / draws
    log_snr = np.array([level.log_snr for level in levels])
    found = cells.pixels[0].size / 2 * np.trapezoid(apart[:, ::-1], log_snr[::-1], axis=1)
    exact = bayes(cells.pixels, 2)
    assert np.allclose(found, exact[:, 0] - exact[:, 1], atol=1.0)
    assert np.corrcoef(found, exact[:, 0] - exact[:, 1])[0, 1] > 0.99


@pytest.mark.parametrize("classes", [2, 4])
def test_with_an_exact_denoiser_it_is_nearly_the_bayes_classifier(classes):
    model, test = fitted(classes, give_up=0.0, draws=4, looks=16)
    found = model.judge(test.pixels, test.places).probabilities
    exact = np.exp(bayes(test.pixels, classes))
    right, best = (float((p.argmax(axis=1) == test.classes).mean()) for p in (found, exact))
    assert 0.75 < best < 0.999  # else this says nothing
    assert right > best - 0.04
    sure = exact.max(axis=1) > 0.95
    assert (found.argmax(axis=1) == exact.argmax(axis=1))[sure].mean() > 0.97
    assert np.abs(found - exact).mean() < 0.08
    assert np.allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("classes", [2, 4])
def test_elimination_costs_less_and_says_the_same_of_clear_cells(classes):
    model, test = fitted(classes)
    denoiser = model.denoising._network
    before = denoiser.asked
    found = model.judge(test.pixels, test.places)
    assert denoiser.asked - before == found.evaluations.sum()  # what is stated is what was spent
    whole = replace(model, give_up=0.0).judge(test.pixels, test.places)
    assert (whole.evaluations == len(model.rule.plan) * classes).all()
    assert found.evaluations.mean() < 0.8 * whole.evaluations.mean()
    assert found.evaluations.min() >= classes
    clear = whole.probabilities.max(axis=1) > 0.99
    assert clear.mean() > 0.2
    assert (found.probabilities.argmax(axis=1) == whole.probabilities.argmax(axis=1))[clear].mean() > 0.98
    # all that is left out costs hardly any accuracy
    accuracy = [float((each.probabilities.argmax(axis=1) == test.classes).mean()) for each in (found, whole)]
    assert accuracy[0] > accuracy[1] - 0.03
    assert np.allclose(found.probabilities.sum(axis=1), 1)


def test_a_class_that_is_out_keeps_its_probability_and_costs_no_more():
    level = PairedLogit(np.array([10.0]), np.zeros(3))
    rule = Rule([Level(5, 0.0)], [0, 0, 0], [level] * 3)
    losses = np.array([[0.0, 0.05, 5.0], [0.0, 3.0, 4.0]])
    asked_about = []

    def ask(rows, look, asked):
        asked_about.append((look, rows.tolist(), asked.sum(axis=1).tolist()))
        return np.where(asked, losses[rows], np.nan)

    found = eliminate(ask, rule, 2, 3, give_up=0.01)
    assert asked_about == [(0, [0, 1], [3, 3]), (1, [0], [2]), (2, [0], [2])]
    assert found.evaluations.tolist() == [7, 3]
    expected = np.exp(log_softmax(-10 * losses, axis=1))
    assert np.allclose(found.probabilities, expected)


def test_neither_the_batch_size_nor_who_else_is_asked_about_changes_a_loss():
    cells = gaussian_cells(10, 3)
    asked = np.random.default_rng(0).random((10, 3)) < 0.6
    question = Question(300, 1)
    whole = PairedDenoising(denoiser_of(3), CPU, 64, 0).losses(cells.pixels, cells.places, question, asked | True)
    for batch_size in (1, 7, 30):
        found = PairedDenoising(denoiser_of(3), CPU, batch_size, 0).losses(cells.pixels, cells.places, question, asked)
        assert np.isnan(found[~asked]).all()
        assert np.allclose(found[asked], whole[asked], rtol=1e-5)
    some = np.array([7, 2])
    alone = PairedDenoising(denoiser_of(3), CPU, 64, 0).losses(cells.pixels[some], some, question, asked[some] | True)
    assert np.allclose(alone, whole[some], rtol=1e-5)
    other = PairedDenoising(denoiser_of(3), CPU, 64, 1).losses(cells.pixels, cells.places, question, asked | True)
    assert (other != whole).all()


def test_the_parts_of_a_map_sum_to_the_log_odds(two):
    model, test = two
    chosen = test[:5]
    pairs = np.repeat([[1, 0]], 5, axis=0)
    parts = model.maps(chosen.pixels, chosen.places, pairs)
    assert parts.shape == (5, SIDE, SIDE)
    probabilities = replace(model, give_up=0.0).judge(chosen.pixels, chosen.places).probabilities
    bias = model.rule.stages[-1].bias
    expected = np.log(probabilities[:, 1]) - np.log(probabilities[:, 0])
    assert np.allclose(parts.sum((1, 2)) + bias[1] - bias[0], expected, atol=1e-4)


def test_a_map_lies_where_the_classes_differ():
    means = np.zeros((2, 3, SIDE, SIDE))
    means[1, :, :2, :2] = 0.3
    cells = gaussian_cells(400, 2)
    images = means[cells.classes] + DEVIATION * np.random.default_rng(1).normal(size=(400, 3, SIDE, SIDE))
    cells = toy((127.5 * (images + 1)).round().clip(0, 255).astype(np.uint8), cells.table)
    model = GenerativeClassifier.of_denoiser(Denoiser(Exact(means), PROCESS, SIDE), cells, PARAMETERS)
    maps = explain(model, cells.part("test"), 2, "class 1", np.random.default_rng(0))
    assert np.allclose(maps.parts[:, 2:, 2:], 0, atol=1e-5)
    assert (maps.parts[:, :2, :2] != 0).all()
    assert set(maps.speaks_for) == {"class 1"}


def test_the_weights_of_a_known_logit_are_found():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 3, 2)) * [1, 100]
    logits = scores @ [1.5, -0.02] + [0.5, 0, -0.5]
    classes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    found = PairedLogit.fit(scores, classes)
    assert np.allclose(found.weights, [1.5, -0.02], rtol=0.1)
    assert np.allclose(found.bias - found.bias.mean(), [0.5, 0, -0.5], atol=0.1)


def test_the_rule_looks_where_the_classes_differ_and_not_where_they_do_not():
    rng = np.random.default_rng(0)
    classes = np.arange(200) % 2
    losses = rng.normal(size=(200, 2, 3, 4))
    losses[np.arange(200), classes, 1] -= 1.0
    levels = [Level(t, -float(t)) for t in (10, 20, 30)]
    rule = choose_rule(losses, classes, np.array([f"p{k // 10}" for k in range(200)]), levels, 4)
    assert rule.plan == [1, 1, 1, 1]
    assert rule.draws == [0, 1, 2, 3]
    assert len(rule.stages) == 4
    scores = scores_of(losses, [1, 2, 1])
    assert np.allclose(scores[:, :, 0], -losses[:, :, 1, :2].mean(axis=2))
    assert np.allclose(scores[:, :, 1], -losses[:, :, 2, 0])


def test_levels_are_the_nearest_timesteps_each_once():
    levels = levels_at(PROCESS, [0.0, 0.0001, -3, 9, 50])
    assert [round(level.log_snr) for level in levels] == [9, 0, -3]
    assert [level.t for level in levels] == sorted(level.t for level in levels)


def fake_yolo(classes, correct=0.9):
    def predict(pixels):
        exact = bayes(pixels, classes)
        worse = exact + np.random.default_rng(0).normal(0, 2, size=exact.shape) * (correct < 1)
        return np.exp(log_softmax(worse, axis=1)).astype(np.float32)

    return predict


def test_all_judges_see_the_same_cells_and_both_together_are_no_worse(two):
    model, test = two
    panel = Panel.fit(model, fake_yolo(2))
    judged = panel.judge(test.pixels, test.places)
    table = judged_table(judged, test, None)
    right = (table["label"] == table["predicted"]).groupby(table["classifier"]).mean()
    assert right[FITTED] >= max(right[MODEL], right[YOLO]) - 0.01
    assert table.groupby("classifier")["row"].apply(list).map(tuple).nunique() == 1
    found = agreement(table, 0.95)
    counts = [found[key] for key in ("both_right", "only_model_right", "only_yolo_right", "both_wrong")]
    assert sum(counts) == len(test)
    assert found["low"] < found["share"] < found["high"]
    assert np.isclose(right[MODEL], (counts[0] + counts[1]) / len(test))
    spent = cost(judged, model)
    assert spent["evaluations"]["mean"] == judged.evaluations.mean() < spent["evaluations"]["without_elimination"]
    assert spent["validation"]["all_looks"]["evaluations"] == spent["evaluations"]["without_elimination"]


def test_validation_people_are_judged_by_weights_fitted_to_others():
    """Where the losses say nothing, weights fitted to the same cells would still find something."""
    model, _ = fitted(2)
    rng = np.random.default_rng(0)
    noise = model.validated._replace(losses=rng.normal(size=model.validated.losses.shape))
    blind = GenerativeClassifier(
        model.denoising, model.rule, model.class_names, model.size, 0.0, noise, model.free
    ).judge_validated()
    assert abs((blind.probabilities.argmax(axis=1) == noise.cells.classes).mean() - 0.5) < 0.1


def test_yolo_of_other_classes_is_refused(two):
    with pytest.raises(UserError, match="knows 3 classes, the diffusion model"):
        Panel.fit(two[0], fake_yolo(3))


def test_cells_of_another_size_are_refused(two):
    with pytest.raises(UserError, match=r"cells of 8 px, but the diffusion model is of 4 px.*packing\.size 4"):
        two[0].judge(np.zeros((2, 3, 8, 8), np.uint8), np.arange(2))


def lineage_of(cells, **changes):
    found = {"identity": "abc", "class_names": cells.class_names, "size": SIDE, "cells_fingerprint": "of nothing",
             "training_cells_fingerprint": "another", "training_cells": ["0123456789abcdef"]}  # fmt: skip
    return SimpleNamespace(**found | changes, model_dump=lambda mode: found | changes)


def test_models_that_cannot_judge_these_cells_are_refused():
    cells = gaussian_cells(40, 2)
    cells = toy(cells.images, cells.table.assign(name="a", path="a", sha256="0123456789abcdef" * 4))
    for changes, said in (({"class_names": ["a"]}, "one class only, 'a'"), ({"size": 8}, "cells of 4 px, but model")):
        with pytest.raises(UserError, match=said):
            check_model(SimpleNamespace(lineage=lineage_of(cells, **changes)), cells)
    with pytest.raises(LineageError, match="among them 1 of the 40 that now validate or test"):
        check_model(SimpleNamespace(lineage=lineage_of(cells)), cells)


def test_too_few_validation_cells_or_people_are_refused():
    people = np.array(["a", "b"] * 12)
    with pytest.raises(UserError, match="2 validation cells of class 'dark'"):
        check_validation_cells(np.repeat([0, 1], [22, 2]), people, ["bright", "dark"])
    with pytest.raises(UserError, match="all validation cells are of 'a'"):
        check_validation_cells(np.repeat([0, 1], 12), np.full(24, "a"), ["bright", "dark"])
    cells = gaussian_cells(40, 2)
    with pytest.raises(UserError, match="no cell of class 'class 1'"):
        some_of_each(cells[cells.classes == 0], 20, 0)
    with pytest.raises(UserError, match="1 cells cannot hold 2 classes"):
        some_of_each(cells, 1, 0)
