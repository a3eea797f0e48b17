"""A hundred classes: what is tested is cut by one rule, and figures stay legible and of a size to look at."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.metrics import balanced_accuracy_score, f1_score

from malaria_diffusion.cells.grey import ROWS_AT_ONCE, all_grey
from malaria_diffusion.classifier.metrics import classification_metrics, prediction_table
from malaria_diffusion.figures.dataset import dataset_figure
from malaria_diffusion.figures.diffusion import beside, sheet
from malaria_diffusion.figures.validation import confusion_matrix
from malaria_diffusion.questions.acquisition.measure import KEPT_COLUMNS, associations_kept
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import MOST_CLASSES, compared_groups

from .toys import toy

NAMES = [f"species {number:03}" for number in range(100)]
LONGEST = 20  # inches


def drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert max(figure.get_size_inches()) <= LONGEST
    return canvas.get_renderer()


@pytest.mark.parametrize("classes", [2, 5, 30, 31, 100])
def test_names_in_a_confusion_matrix_are_all_there_and_do_not_overlap(classes):
    counts = pd.DataFrame(np.eye(classes, dtype=int) * 7, NAMES[:classes], NAMES[:classes])
    figure = confusion_matrix(counts, {"value": 1.0, "low": 1.0, "high": 1.0}, "cells")
    renderer = drawn(figure)
    (axes,) = figure.axes
    for labels, place in ((axes.get_yticklabels(), "y"), (axes.get_xticklabels(), "x")):
        assert [label.get_text() for label in labels] == NAMES[:classes]
        boxes = sorted(
            [label.get_window_extent(renderer) for label in labels], key=lambda box: getattr(box, f"{place}0")
        )
        for one, other in itertools.pairwise(boxes):
            assert getattr(one, f"{place}1") <= getattr(other, f"{place}0") + 0.5
        assert all(label.get_fontsize() >= 4 for label in labels)


def test_sheets_show_some_classes_and_say_how_many_there_are():
    labels = pd.Series(np.repeat(NAMES, 3))
    cells = np.zeros((300, 3, 8, 8), np.uint8)
    for figure in (sheet(cells, labels, "cells"), beside(cells, labels, cells, labels, "cells")):
        drawn(figure)
        assert f"{MOST_CLASSES} of 100 classes" in figure.get_suptitle()
        titles = " ".join(axes.get_title() for axes in figure.axes)
        assert NAMES[0] in titles
        assert NAMES[MOST_CLASSES] not in titles


def test_the_dataset_figure_counts_a_hundred_classes_together():
    split = np.tile(["train", "train", "val", "test"], 100)
    table = pd.DataFrame({"label": np.repeat(NAMES, 4), "split": split, "audit": False, "person": np.arange(400)})
    figure = dataset_figure(table, "cells")
    drawn(figure)
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["all classes"]


def test_each_class_is_compared_while_there_are_few_and_each_has_enough():
    assert compared_groups(pd.Series(["b", "a", "b", "a"]), 2) == ["all", "a", "b"]
    assert compared_groups(pd.Series(["b", "a", "b"]), 2) == ["all"]
    assert compared_groups(pd.Series(NAMES[:MOST_CLASSES])) == ["all", *NAMES[:MOST_CLASSES]]
    assert compared_groups(pd.Series(NAMES[: MOST_CLASSES + 1])) == ["all"]


def test_without_a_positive_class_metrics_are_means_over_classes_and_scores_of_the_own_class():
    rng = np.random.default_rng(0)
    names = NAMES[:5]
    truth = rng.integers(5, size=400)
    probabilities = rng.dirichlet(np.ones(5), 400)
    probabilities[np.arange(400), truth] += rng.random(400)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    table = pd.DataFrame({"label": np.array(names)[truth], "person": rng.integers(40, size=400).astype(str)})
    cells = toy(np.zeros((400, 3, 4, 4), np.uint8), table)
    predictions = prediction_table(cells, probabilities, names, None)
    np.testing.assert_allclose(predictions["probability"], probabilities[np.arange(400), truth])
    found = classification_metrics(predictions, None, 0.95)
    answers = predictions["label"], predictions["predicted"]
    assert found["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(*answers))
    assert found["macro_f1"]["value"] == pytest.approx(f1_score(*answers, average="macro"))
    for metric in found.values():
        assert metric["low"] <= metric["value"] <= metric["high"]


def test_without_a_positive_class_no_factor_goes_with_it():
    nothing = pd.DataFrame()
    kept = associations_kept(nothing, nothing, nothing, None, Bootstrap(100, 0.95, np.random.default_rng(0)))
    assert list(kept.columns) == KEPT_COLUMNS
    assert kept.empty


def test_one_coloured_pixel_in_the_last_image_makes_them_not_grey():
    cells = np.broadcast_to(np.uint8(7), (ROWS_AT_ONCE + 2, 3, 4, 4)).copy()
    assert all_grey(cells)
    cells[-1, 2, 3, 3] = 8
    assert not all_grey(cells)
