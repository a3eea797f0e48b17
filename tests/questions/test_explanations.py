"""Explanations: attributions with closed forms, and a ratio that tells attribution on the parasite from chance."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.phantom.draw import PhantomParameters, phantom_cells
from malaria_diffusion.cells.phantom.masks import _packed
from malaria_diffusion.classifier.predictor import load_predictor, predict, random_classifier
from malaria_diffusion.classifier.sandbox import private_ultralytics
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.distributions.measure import foreground
from malaria_diffusion.questions.explanations.figure import SHOWN, explained_cells
from malaria_diffusion.questions.explanations.measure import (
    DIFFERENCE,
    ExplainedCells,
    Question,
    choose,
    explain,
    localisation,
    log_odds,
    results_table,
)
from malaria_diffusion.statistics.bootstrap import Bootstrap

BLACK = (0, 0, 0)
GREY = (120, 130, 140)


def probabilities(odds):
    """Two classes; the log-odds are of class 1."""
    p = 1 / (1 + np.exp(-odds))
    return np.stack([1 - p, p], axis=1)


def discs(rng, count, side, background=BLACK):
    """Noisy cells on a background."""
    cells = np.empty((count, 3, side, side), dtype=np.uint8)
    cells[:] = np.array(background, dtype=np.uint8).reshape(3, 1, 1)
    y, x = np.indices((side, side)) - (side - 1) / 2
    inside = np.hypot(y, x) < side / 2 - 0.6
    cells[:, :, inside] = rng.integers(170, 256, (count, 3, inside.sum()), dtype=np.uint8)
    return cells


def asked(background=BLACK, evaluations=200, seed=0):
    return Question(background, 30, None, 1, evaluations, seed)


def hidden(cells, background):
    """The same cells with every pixel hidden."""
    result = cells.copy()
    for cell, mask in zip(result, foreground(cells, background, 30), strict=True):
        cell[:, mask] = np.median(cell[:, mask], axis=1).round()[:, None]
    return result


@pytest.mark.parametrize("background", [BLACK, GREY])
def test_an_additive_function_is_explained_exactly(background):
    rng = np.random.default_rng(0)
    cells, weights = discs(rng, 2, 8, background), rng.normal(0, 0.003, (3, 8, 8))
    found = explain(lambda x: probabilities((x * weights).sum((1, 2, 3))), cells, 1, asked(background, 4000, 0))
    expected = ((cells.astype(float) - hidden(cells, background)) * weights).sum(axis=1)
    assert found == pytest.approx(expected, abs=1e-5)
    assert np.abs(expected).max() > 0.1


def interactions(images):
    """Log-odds that no sum over pixels makes."""
    x = images.astype(float).mean(axis=1) / 255
    return probabilities(5 * np.tanh(x[:, 4:9, 4:9].sum((1, 2)) - 19) + x.max((1, 2)) * x[:, :4].std((1, 2)))


def test_attributions_sum_to_what_the_cell_gains_over_the_hidden_one():
    cells = discs(np.random.default_rng(1), 3, 16)
    gained = log_odds(interactions(cells), 1) - log_odds(interactions(hidden(cells, BLACK)), 1)
    for evaluations in (10, 200):
        found = explain(interactions, cells, 1, asked(BLACK, evaluations, 0))
        assert found.dtype == np.float32
        assert found.sum((1, 2)) == pytest.approx(gained, abs=1e-4)
    assert explain(interactions, cells, 0, asked(BLACK, 200, 0)) == pytest.approx(-found, abs=1e-5)


def test_only_the_cell_is_hidden_and_only_by_its_own_colour():
    cells = discs(np.random.default_rng(2), 1, 16)
    seen = []
    found = explain(lambda x: seen.append(x.copy()) or interactions(x), cells, 1, asked(BLACK, 200, 0))
    seen, inside, clean = np.concatenate(seen), foreground(cells, BLACK, 30)[0], hidden(cells, BLACK)[0]
    assert seen.dtype == np.uint8
    assert len(seen) == pytest.approx(200, abs=2)
    assert ((seen == cells) | (seen == clean)).all()
    assert (seen[:, :, ~inside] == cells[:, :, ~inside]).all()
    assert not found[0, ~inside].any()
    assert found[0, inside].any()


def ties(images):
    """Log-odds that rise in steps, so that many parts matter equally."""
    return probabilities(np.minimum((images[:, 0] > 212).sum((1, 2)) // 20, 4) * 1.0)


def test_the_same_seed_gives_the_same_whatever_else_is_explained():
    cells = discs(np.random.default_rng(3), 3, 16)
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    found = explain(ties, cells, 1, asked(BLACK, 300, 7))
    assert np.random.random() == expected  # noqa: NPY002
    assert (explain(ties, cells[::-1], 1, asked(BLACK, 300, 7)) == found[::-1]).all()
    assert (explain(ties, cells, 1, asked(BLACK, 300, 8)) != found).any()


def test_cells_without_a_foreground_are_not_explained():
    cells = np.zeros((2, 3, 16, 16), dtype=np.uint8)
    cells[1, :, 3, 3] = 200
    assert not explain(interactions, cells, 1, asked(BLACK, 100, 0)).any()


def test_log_odds_do_not_saturate():
    p = np.array([[1e-12, 1], [1e-20, 1], [0, 1], [0.25, 0.75]], dtype=np.float32)
    odds = log_odds(p, 1)
    assert odds[0] == pytest.approx(np.log(1e12), rel=1e-5)
    assert odds[0] < odds[1] < odds[2] < np.inf
    assert odds[3] == pytest.approx(np.log(3))
    assert log_odds(np.array([[0.2, 0.3, 0.5]]), 1) == pytest.approx(np.log(3 / 7))


def test_what_cannot_be_explained_is_refused():
    cells = discs(np.random.default_rng(4), 1, 16)
    with pytest.raises(UserError, match="class 2"):
        explain(interactions, cells, 2, asked(BLACK, 100, 0))
    with pytest.raises(UserError, match="finite: False"):
        explain(lambda x: np.full((len(x), 2), np.nan), cells, 1, asked(BLACK, 100, 0))
    with pytest.raises(UserError, match="9 evaluations"):
        explain(interactions, cells, 1, asked(BLACK, 9, 0))


def marked(rng, count, side=16):
    """Foregrounds and masks of 1 to 6 x 6 pixels in them."""
    inside = foreground(discs(rng, count, side), BLACK, 30)
    masks = np.zeros_like(inside)
    for mask in masks:
        row, column = rng.integers(3, side - 9, 2)
        mask[row : row + rng.integers(1, 7), column : column + rng.integers(1, 7)] = True
    return inside, masks


def explained(rng, trained, masks, inside, units=None, label="ill"):
    count = len(masks)
    units = np.arange(count).astype(str) if units is None else units
    cells = np.zeros((count, 3, *masks.shape[1:]), dtype=np.uint8)
    noise = rng.normal(size=masks.shape)
    return ExplainedCells(cells, inside, masks, trained, noise, np.full(count, label), units, np.arange(count))


def ratios(side, resamples=200, seed=0):
    table = results_table({"real": side}, Bootstrap(resamples, 0.95, np.random.default_rng(seed)))
    return table.set_index("network")


def test_attribution_that_ignores_the_mask_has_the_ratio_one():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        inside, masks = marked(rng, 60)
        found = ratios(explained(rng, rng.normal(size=masks.shape), masks, inside))
        assert found["ratio"].to_numpy() == pytest.approx(1, abs=0.25)
        covered += (found.loc["trained", "low"] <= 1 <= found.loc["trained", "high"]).sum()
    assert covered >= 88  # of 100 intervals of 95 %; 4 in 10 000 series of such have fewer


def test_attribution_on_the_mask_alone_has_the_largest_ratio():
    rng = np.random.default_rng(6)
    inside, masks = marked(rng, 40)
    found = ratios(explained(rng, masks * 0.7 - 0.2 * ~masks, masks, inside)).loc["trained"]
    share = ((masks & inside).sum((1, 2)) / inside.sum((1, 2))).mean()
    assert found["mask_share"] == pytest.approx(share)
    assert found["ratio"] == pytest.approx(1 / share)
    assert ratios(explained(rng, 1.0 * ~masks, masks, inside)).loc["trained", "ratio"] == 0


def test_what_lies_outside_the_cell_does_not_count():
    rng = np.random.default_rng(7)
    inside, masks = marked(rng, 10)
    attributions = rng.normal(size=masks.shape)
    clean = localisation(attributions, masks, inside)
    dirty = localisation(attributions + 9 * ~inside, masks | ~inside, inside)
    assert all(np.array_equal(one, other) for one, other in zip(clean, dirty, strict=True))


def test_cells_without_mask_or_attribution_are_left_out_and_counted():
    rng = np.random.default_rng(8)
    inside, masks = marked(rng, 12)
    trained = rng.normal(size=masks.shape)
    expected = ratios(explained(rng, trained[5:], masks[5:], inside[5:])).loc["trained"]
    masks[:2], trained[2:5], inside[1] = False, -1, False
    found = ratios(explained(rng, trained, masks, inside)).loc["trained"]
    assert found[["cells", "without_mask", "without_attribution"]].tolist() == [7, 2, 3]
    assert found["ratio"] == expected["ratio"]
    none = explained(rng, trained[:2], masks[:2], inside[:2])
    assert results_table({"real": none}, Bootstrap(100, 0.95, rng)).empty
    assert {"ratio", "low", "high"} < set(results_table({"real": none}, Bootstrap(100, 0.95, rng)).columns)
    with pytest.raises(UserError, match="differ in shape"):
        localisation(trained[:3], masks, inside)


def test_real_cells_are_resampled_by_person():
    rng = np.random.default_rng(9)
    inside, masks = marked(rng, 80)
    people = np.repeat(np.arange(8), 10).astype(str)
    trained = np.abs(rng.normal(size=masks.shape)) + masks * (people.astype(int) % 2 * 4)[:, None, None]
    widths = [
        np.ptp(ratios(explained(rng, trained, masks, inside, units)).loc["trained", ["low", "high"]].astype(float))
        for units in (None, people)
    ]
    assert widths[1] > 2 * widths[0]


def test_one_person_alone_has_no_interval():
    rng = np.random.default_rng(11)
    inside, masks = marked(rng, 10)
    trained = np.abs(rng.normal(size=masks.shape)) + masks
    found = ratios(explained(rng, trained, masks, inside, np.array(["p"] * 10)))
    assert found["ratio"].notna().all()
    assert found[["low", "high"]].isna().all(axis=None)


def test_real_less_synthetic_finds_what_was_planted():
    rng = np.random.default_rng(10)
    sides = {}
    for side, more in (("real", 3), ("synthetic", 0)):
        inside, masks = marked(rng, 60)
        sides[side] = explained(rng, np.abs(rng.normal(size=masks.shape)) + more * masks, masks, inside)
    table = results_table(sides, Bootstrap(300, 0.95, np.random.default_rng(0)))
    assert not table.isna().any().any()
    found = table.set_index(["side", "network"])
    assert found.loc[(DIFFERENCE, "trained"), "low"] > 0
    assert found.loc[(DIFFERENCE, "random"), "low"] < 0 < found.loc[(DIFFERENCE, "random"), "high"]
    for network, column in itertools.product(("trained", "random"), ("ratio", "mask_share")):
        difference = found.loc[("real", network), column] - found.loc[("synthetic", network), column]
        assert found.loc[(DIFFERENCE, network), column] == pytest.approx(difference)
    assert found.loc[(DIFFERENCE, "trained"), "cells"] == 120
    assert table.equals(results_table(sides, Bootstrap(300, 0.95, np.random.default_rng(0))))


def test_random_weights_have_no_positive_class():
    rng = np.random.default_rng(11)
    inside, masks = marked(rng, 20)
    side = explained(rng, rng.normal(size=masks.shape), masks, inside)
    turned = side._replace(random=-side.random)
    assert ratios(side).equals(ratios(turned))


def test_cells_are_chosen_of_as_many_people_as_there_are():
    labels = np.repeat(["healthy", "ill"], [30, 40])
    units = np.concatenate([np.repeat(["A", "B"], [28, 2]), np.repeat(["C", "D", "E", "F"], 10)])
    rows = choose(labels, units, 4, np.random.default_rng(0))
    assert labels[rows].tolist() == ["healthy"] * 4 + ["ill"] * 4
    assert len(set(rows)) == 8
    assert sorted(units[rows]) == ["A", "A", "B", "B", "C", "D", "E", "F"]
    assert rows.tolist() != choose(labels, units, 4, np.random.default_rng(1)).tolist()
    assert labels[choose(labels, units, 31, np.random.default_rng(0))].tolist() == ["healthy"] * 30 + ["ill"] * 30


@pytest.fixture(scope="module")
def phantom():
    """Infected phantom cells as packed, and where their parasites are."""
    packing = PackingParameters(size=32)
    parameters = PhantomParameters(infected_people=6, healthy_people=1, cells_per_person=4)
    drawn = [cell for cell in phantom_cells(parameters) if cell.parasite_mask.any()]
    cells = np.stack([_packed(cell.image, packing, BLACK) for cell in drawn])
    masks = [np.repeat(cell.parasite_mask[..., None], 3, axis=-1) * np.uint8(255) for cell in drawn]
    return cells, np.stack([_packed(mask, packing, BLACK)[0] > 127 for mask in masks])


def stain(images):
    """Log-odds that grow with the pixels that are bluer than most of the cell, as parasites are."""
    hue = (images[:, 2] + 1.0) / (images[:, 0] + 1.0)
    usual = [np.median(one[image[0] > 30]) for one, image in zip(hue, images, strict=True)]
    return probabilities(np.maximum(hue / np.reshape(usual, (-1, 1, 1)) - 1.1, 0).sum((1, 2)) - 2)


def test_a_predictor_of_the_stain_is_found_to_look_at_the_parasite(phantom):
    cells, masks = phantom
    inside = foreground(cells, BLACK, 30)
    rng = np.random.default_rng(12)
    field = rng.normal(0, 0.001, cells.shape[1:]) * np.array([0, 0, 1]).reshape(3, 1, 1)
    elsewhere = explain(lambda x: probabilities((x * field).sum((1, 2, 3))), cells, 1, asked(BLACK, 300, 0))
    found = explain(stain, cells, 1, asked(BLACK, 300, 0))
    side = explained(rng, found, masks, inside)._replace(cells=cells, random=elsewhere)
    table = ratios(side)
    assert table.loc["trained", "low"] > 3
    assert table.loc["random", "ratio"] < 2
    shown = {"real": side, "synthetic": side._replace(masks=np.zeros_like(masks))}
    figure = explained_cells(shown, results_table(shown, Bootstrap(100, 0.95, rng)), "ill", "drawn cells", "parasites")
    titles = [part._suptitle.get_text() for part in figure.subfigs[1].subfigs[0].subfigs]
    assert f"real, ill: ratio {table.loc['trained', 'ratio']:.1f} [" in titles[0]
    assert "no ratio" in titles[1]
    images = [image for axes in figure.axes for image in axes.images]
    assert len(images) == 2 * 2 * SHOWN
    assert len({image.get_clim() for image in images[1::2]}) == 1
    assert sum(len(axes.collections) for axes in figure.axes[: 2 * SHOWN]) == SHOWN


def test_a_figure_of_nothing_is_no_error():
    rng = np.random.default_rng(13)
    inside, masks = marked(rng, 2)
    side = explained(rng, rng.normal(size=masks.shape), masks, inside)
    table = results_table({"real": side}, Bootstrap(10, 0.95, rng))
    explained_cells({"real": side._replace(trained=0 * side.trained)}, table, "ill", "cells", "spots").canvas.draw()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A classifier that has learned nothing, in ultralytics' format."""
    file = tmp_path_factory.mktemp("classifier") / "best.pt"
    with private_ultralytics():
        from ultralytics.nn.tasks import ClassificationModel

        torch.manual_seed(0)
        model = ClassificationModel("yolov8n-cls.yaml", nc=3, verbose=False)
        model.names = {0: "a", 1: "b", 2: "c"}
        torch.save({"model": model, "train_args": {"imgsz": 32}}, file)
    return file


def test_a_loaded_predictor_predicts_what_the_checkpoint_does(checkpoint, phantom):
    loaded = load_predictor(checkpoint, device="cpu")
    for _ in range(2):
        assert (loaded(phantom[0]) == predict(checkpoint, phantom[0], device="cpu")).all()
    with pytest.raises(ValueError, match="uint8"):
        loaded(phantom[0].astype(np.float32))


def test_random_weights_are_new_and_their_output_varies(checkpoint, phantom):
    cells, _ = phantom
    state = torch.get_rng_state()
    found = [random_classifier(checkpoint, cells, seed, device="cpu")(cells) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert found[0].shape == (len(cells), 3)
    assert (found[0] == found[1]).all()
    assert np.abs(found[0] - found[2]).max() > 0.01
    spread = [log_odds(p, 0).std() for p in (found[0], predict(checkpoint, cells, device="cpu"))]
    assert spread[0] > 0.1 > 10 * spread[1]
    with pytest.raises(UserError, match="found 1"):
        random_classifier(checkpoint, cells[:1], 0)


def test_importing_is_cheap():
    code = (
        "import sys, malaria_diffusion.questions.explanations.measure\n"
        "print({'shap', 'torch', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
