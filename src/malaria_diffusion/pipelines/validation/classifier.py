"""The classifier: trained, judged on unseen people, its confidence and its mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.metrics import (
    accuracy_of_groups,
    at_threshold,
    choose_threshold,
    classification_metrics,
    confusion,
    prediction_table,
    recognised_as_intended,
    reliability,
)
from malaria_diffusion.classifier.mistakes import confident_mistakes
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.trainer import resolve_weights, train_classifier
from malaria_diffusion.figures import classifier as figures
from malaria_diffusion.figures import validation as paper_figures
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.tracking import log as tracking

MISTAKES_SHOWN = 16


def train_yolo(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    classifier: ClassifierParameters,
    workspace: Path,
    class_names: list[str],
    compared_rows: dict[str, list[int]],
) -> tuple[Path, pd.DataFrame]:
    """Train the classifier on the training split, watched on the validation split, which may choose the epoch."""
    checkpoint, history = train_classifier(
        cells,
        cell_table["label"].map(class_names.index).to_numpy(np.int64),
        class_names,
        np.flatnonzero(training_rows(cell_table)),
        np.flatnonzero(cell_table["split"] == "val"),
        classifier,
        workspace / "yolo",
        resolve_weights(classifier.weights, workspace),
        lambda row: tracking.log_curves(pd.DataFrame([row]), "classifier"),
    )
    tracking.log_json(history.attrs["effective"], "classifier_effective.json")
    return checkpoint, history


def predict_cells(
    yolo_classifier: Path,
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    class_names: list[str],
    compared_rows: dict[str, list[int]],
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
) -> pd.DataFrame:
    """Classify every test and validation cell, and the compared synthetic ones.

    Returns:
        One row a cell: the columns of `prediction_table`, source ("real", "val", "synthetic") and compared (whether it
        is among those compared).
    """
    sources = {
        "real": (cells, cell_table, np.flatnonzero(cell_table["split"] == "test")),
        "val": (cells, cell_table, np.flatnonzero(cell_table["split"] == "val")),
        "synthetic": (synthetic_cells, synthetic_table, np.array(compared_rows["synthetic"])),
    }
    parts = []
    for source, (images, table, rows) in sources.items():
        probabilities = predict(yolo_classifier, images[rows], device=classifier.device)
        predictions = prediction_table(table, rows, probabilities, class_names, comparison.positive_class)
        parts.append(predictions.assign(source=source, compared=np.isin(rows, compared_rows[source])))
    return pd.concat(parts, ignore_index=True)


def measure_classifier(
    predictions: pd.DataFrame, comparison: ComparisonParameters
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Metrics on the test cells with intervals, at one half and at the threshold that validation cells choose.

    Returns:
        Metrics; the confusion matrix; accuracy of each person and slide; the rates recognised as intended.
    """
    test, val = (predictions[predictions["source"] == source] for source in ("real", "val"))
    positive = comparison.positive_class

    def measure(table: pd.DataFrame) -> dict[str, dict[str, float]]:
        return classification_metrics(table, positive, Bootstrap.of(comparison))

    result: dict[str, Any] = {"unseen": measure(test)}
    if positive is not None and test["label"].nunique() == 2:
        threshold = choose_threshold(val, positive)
        chosen = measure(at_threshold(test, positive, threshold))
        del chosen["auc"], chosen["ece"]  # of the probabilities, whatever the threshold
        result |= {"threshold": threshold, "unseen_at_threshold": chosen}
    tracking.log_metrics({"classification": result})
    compared = predictions[predictions["compared"]]
    recognised = recognised_as_intended(
        compared[compared["source"] == "real"],
        compared[compared["source"] == "synthetic"],
        Bootstrap.of(comparison),
    )
    counts = confusion(test, sorted(test["label"].unique()))
    return result, counts, accuracy_of_groups(test, comparison.confidence), recognised


def draw_classified_cells(
    cells: NDArray[np.uint8], predictions: pd.DataFrame, dataset_summary: dict[str, Any]
) -> Figure:
    """Figure 3: some test cells, classified."""
    shown = predictions[(predictions["source"] == "real") & predictions["compared"]]
    return paper_figures.classified_samples(cells[shown["row"].to_numpy()], shown, _what(dataset_summary))


def draw_confusion(
    confusion_counts: pd.DataFrame, classification_metrics: dict[str, Any], dataset_summary: dict[str, Any]
) -> Figure:
    """Figure 4: confusion matrix on the test cells."""
    accuracy = classification_metrics["unseen"]["accuracy"]
    return paper_figures.confusion_matrix(confusion_counts, accuracy, _what(dataset_summary))


def draw_learning_curves(yolo_history: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """Figure 5: learning curves of the classifier."""
    return paper_figures.classifier_curves(yolo_history, dataset_summary["images"])


def draw_reliability(predictions: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """How far the classifier's confidence can be believed on unseen people."""
    unseen = predictions[predictions["source"] == "real"]
    return figures.reliability_figure({dataset_summary["unseen"]: reliability(unseen)}, dataset_summary["images"])


def draw_mistakes(cells: NDArray[np.uint8], predictions: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """The most confident wrong answers on unseen people."""
    mistakes = confident_mistakes(predictions[predictions["source"] == "real"], MISTAKES_SHOWN)
    return figures.mistakes_figure(cells[mistakes["row"].to_numpy(dtype=int)], mistakes, _what(dataset_summary))


def create_pipeline() -> Pipeline:
    """Training, predictions, metrics, Figures 3 to 5, reliability and mistakes."""
    return Pipeline(
        [
            Node(
                train_yolo,
                inputs=[
                    "cells",
                    "cell_table",
                    "params:validation.classifier",
                    "workspace",
                    "class_names",
                    "compared_rows",
                ],
                outputs=["yolo_classifier", "yolo_history"],
                name="train_yolo",
            ),
            Node(
                predict_cells,
                inputs=[
                    "yolo_classifier",
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "class_names",
                    "compared_rows",
                    "params:validation.classifier",
                    "params:validation.comparison",
                ],
                outputs="predictions",
                name="predict_cells",
            ),
            Node(
                measure_classifier,
                inputs=["predictions", "params:validation.comparison"],
                outputs=["classification_metrics", "confusion_counts", "unseen_people", "recognised"],
                name="measure_classifier",
            ),
            Node(
                draw_classified_cells,
                inputs=["cells", "predictions", "dataset_summary"],
                outputs="figure_3_classified",
                name="draw_classified_cells",
            ),
            Node(
                draw_confusion,
                inputs=["confusion_counts", "classification_metrics", "dataset_summary"],
                outputs="figure_4_confusion",
                name="draw_confusion",
            ),
            Node(
                draw_learning_curves,
                inputs=["yolo_history", "dataset_summary"],
                outputs="figure_5_classifier_loss",
                name="draw_learning_curves",
            ),
            Node(
                draw_reliability,
                inputs=["predictions", "dataset_summary"],
                outputs="figure_reliability",
                name="draw_reliability",
            ),
            Node(
                draw_mistakes,
                inputs=["cells", "predictions", "dataset_summary"],
                outputs="figure_mistakes",
                name="draw_mistakes",
            ),
        ]
    )


def _what(dataset_summary: dict[str, Any]) -> str:
    return f"{dataset_summary['images']} of {dataset_summary['unseen']}"
