"""The classifier: trained, judged on unseen people, its confidence and its mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.metrics import (
    accuracy_of_groups,
    at_threshold,
    choose_threshold,
    classification_metrics,
    confusion,
    prediction_table,
    reliability,
)
from malaria_diffusion.classifier.mistakes import confident_mistakes
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.trainer import resolve_weights, train_classifier
from malaria_diffusion.figures import classifier as figures
from malaria_diffusion.figures import validation as paper_figures
from malaria_diffusion.observer import observer
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters

MISTAKES_SHOWN = 16


def train_yolo(
    cells: Cells, classifier: ClassifierParameters, workspace: Path, class_names: list[str], comparison: Comparison
) -> tuple[Path, pd.DataFrame]:
    """Train the classifier on the training split, watched on the validation split, which may choose the epoch.

    comparison is an input so that nothing is trained for one that is refused.
    """
    checkpoint, history = train_classifier(
        ClassifierData(
            cells.pixels,
            cells.classes,
            class_names,
            np.flatnonzero(training_rows(cells.table)),
            np.flatnonzero(cells.table["split"] == "val"),
        ),
        classifier,
        workspace / "yolo",
        resolve_weights(classifier.weights, workspace),
        lambda row: observer().log_curves(pd.DataFrame([row]), "classifier"),
    )
    observer().log_json(history.attrs["effective"], "classifier_effective.json")
    return checkpoint, history


def predict_cells(
    yolo_classifier: Path, comparison: Comparison, classifier: ClassifierParameters, parameters: ComparisonParameters
) -> pd.DataFrame:
    """Classify every test and validation cell, and the compared synthetic ones.

    Returns:
        One row a cell: the columns of `prediction_table`, source ("real", "val", "synthetic") and compared (whether it
        is among those compared).
    """
    study = comparison.study
    sources = {
        "real": (study.part("test"), comparison.unseen),
        "val": (study.part("val"), comparison.val),
        "synthetic": (comparison.synthetic, comparison.synthetic),
    }
    parts = []
    for source, (asked, compared) in sources.items():
        probabilities = predict(yolo_classifier, asked.pixels, device=classifier.device)
        predictions = prediction_table(asked, probabilities, study.class_names, parameters.positive_class)
        parts.append(predictions.assign(source=source, compared=predictions["row"].isin(compared.places)))
    return pd.concat(parts, ignore_index=True)


def measure_classifier(
    predictions: pd.DataFrame, comparison: ComparisonParameters
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Metrics on the test cells with intervals, at one half and at the threshold that validation cells choose.

    Returns:
        Metrics; the confusion matrix; accuracy of each person and slide.
    """
    test, val = (predictions[predictions["source"] == source] for source in ("real", "val"))
    positive = comparison.positive_class

    def measure(table: pd.DataFrame) -> dict[str, dict[str, float]]:
        return classification_metrics(table, positive, comparison.confidence)

    result: dict[str, Any] = {"unseen": measure(test)}
    if positive is not None and test["label"].nunique() == 2:
        threshold = choose_threshold(val, positive)
        chosen = measure(at_threshold(test, positive, threshold))
        del chosen["auc"], chosen["ece"]  # of the probabilities, whatever the threshold
        result |= {"threshold": threshold, "unseen_at_threshold": chosen}
    observer().log_metrics({"classification": result})
    counts = confusion(test, sorted(test["label"].unique()))
    return result, counts, accuracy_of_groups(test, comparison.confidence)


def draw_classified_cells(cells: Cells, predictions: pd.DataFrame) -> Figure:
    """Figure 3: some test cells, classified."""
    shown = predictions[(predictions["source"] == "real") & predictions["compared"]]
    return paper_figures.classified_samples(cells[shown["row"].to_numpy()].pixels, shown, cells.caption)


def draw_confusion(confusion_counts: pd.DataFrame, classification_metrics: dict[str, Any], cells: Cells) -> Figure:
    """Figure 4: confusion matrix on the test cells."""
    accuracy = classification_metrics["unseen"]["accuracy"]
    return paper_figures.confusion_matrix(confusion_counts, accuracy, cells.caption)


def draw_learning_curves(yolo_history: pd.DataFrame, cells: Cells) -> Figure:
    """Figure 5: learning curves of the classifier."""
    return paper_figures.classifier_curves(yolo_history, cells.kind)


def draw_reliability(predictions: pd.DataFrame, cells: Cells) -> Figure:
    """How far the classifier's confidence can be believed on unseen people."""
    unseen = predictions[predictions["source"] == "real"]
    return figures.reliability_figure({cells.about["unseen"]: reliability(unseen)}, cells.kind)


def draw_mistakes(cells: Cells, predictions: pd.DataFrame) -> Figure:
    """The most confident wrong answers on unseen people."""
    mistakes = confident_mistakes(predictions[predictions["source"] == "real"], MISTAKES_SHOWN)
    return figures.mistakes_figure(cells[mistakes["row"].to_numpy(dtype=int)].pixels, mistakes, cells.caption)


STEPS = (
    Step(
        train_yolo,
        ("cells", "params:validation.classifier", "workspace", "class_names", "comparison"),
        ("yolo_classifier", "yolo_history"),
    ),
    Step(
        predict_cells,
        ("yolo_classifier", "comparison", "params:validation.classifier", "params:validation.comparison"),
        "predictions",
    ),
    Step(
        measure_classifier,
        ("predictions", "params:validation.comparison"),
        ("classification_metrics", "confusion_counts", "unseen_people"),
    ),
    Step(draw_classified_cells, ("cells", "predictions"), "figure_3_classified"),
    Step(draw_confusion, ("confusion_counts", "classification_metrics", "cells"), "figure_4_confusion"),
    Step(draw_learning_curves, ("yolo_history", "cells"), "figure_5_classifier_loss"),
    Step(draw_reliability, ("predictions", "cells"), "figure_reliability"),
    Step(draw_mistakes, ("cells", "predictions"), "figure_mistakes"),
)
