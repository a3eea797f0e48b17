"""Nodes of the validation pipeline."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.fingerprint import check_cells
from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.errors import UserError
from malaria_diffusion.evaluation import distribution
from malaria_diffusion.evaluation.choice import balanced_rows, per_class_number
from malaria_diffusion.evaluation.classification import classification_metrics, confusion, recognised_as_intended
from malaria_diffusion.evaluation.classifier import predict, resolve_weights, train_classifier
from malaria_diffusion.evaluation.lineage import refuse_leaks
from malaria_diffusion.evaluation.parameters import ClassifierParameters, ComparisonParameters
from malaria_diffusion.figures import diffusion as sheets
from malaria_diffusion.figures import validation as figures
from malaria_diffusion.pipelines import tracking
from malaria_diffusion.report import render_report

logger = logging.getLogger(__name__)


def plan_validation(
    cell_table: pd.DataFrame, classifier: ClassifierParameters, comparison: ComparisonParameters
) -> list[str]:
    """Find out, before anything is trained, whether what is asked for is possible; return the class names."""
    from malaria_diffusion.ddpm.device import resolve_device

    class_names = sorted(cell_table["label"].unique())
    if comparison.positive_class not in class_names:
        raise UserError(
            f"validation.comparison.positive_class is {comparison.positive_class!r}, the classes are {class_names}"
        )
    resolve_device(classifier.device)
    return class_names


def choose_compared(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    synthetic_lineage: dict[str, Any],
    dataset_summary: dict[str, Any],
    comparison: ComparisonParameters,
) -> dict[str, list[int]]:
    """Refuse a model that knows what is held out, and artefacts of different runs; then choose the cells to compare.

    Returns:
        Rows of synthetic_table for "synthetic", and of cell_table for "real" (test split) and "floor" (training split
        without audit cells), as many of each; of cell_table for "val", at most as many: the floor of what the
        classifier says, as it was trained on the other one. Both classes are equal in each.
    """
    check_cells(cells, cell_table, dataset_summary["fingerprint"])
    sample = "run `kedro run --pipeline diffusion` first"
    if len(synthetic_cells) != len(synthetic_table):
        raise UserError(
            f"{len(synthetic_cells)} synthetic_cells, but {len(synthetic_table)} rows in synthetic_table; {sample}"
        )
    if synthetic_cells.shape[1:] != cells.shape[1:]:
        raise UserError(f"synthetic cells are {synthetic_cells.shape[-1]} px, cells {cells.shape[-1]} px; {sample}")
    refuse_leaks(synthetic_table, synthetic_lineage, cell_table, dataset_summary["split_strategy"])

    test = cell_table[cell_table["split"] == "test"]
    trained_on = cell_table[training_rows(cell_table)]
    val = cell_table[cell_table["split"] == "val"]
    number = per_class_number(comparison.n, test, synthetic_table, trained_on)
    rng = np.random.default_rng(comparison.seed)
    rows = {
        "real": balanced_rows(test["label"], number, rng),
        "floor": balanced_rows(trained_on["label"], number, rng),
        "synthetic": balanced_rows(synthetic_table["label"], number, rng),
        "val": balanced_rows(val["label"], per_class_number(2 * number, val), rng),
    }
    logger.info("comparing %d synthetic with %d unseen cells", len(rows["synthetic"]), len(rows["real"]))
    return {side: chosen.tolist() for side, chosen in rows.items()}


def train_yolo(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    classifier: ClassifierParameters,
    workspace: Path,
    class_names: list[str],
    compared_rows: dict[str, list[int]],
) -> tuple[Path, pd.DataFrame]:
    """Train the classifier on the training split, choosing the epoch by the validation split."""
    checkpoint, history = train_classifier(
        cells,
        cell_table["label"].map(class_names.index).to_numpy(np.int64),
        class_names,
        np.flatnonzero(training_rows(cell_table)),
        np.flatnonzero(cell_table["split"] == "val"),
        classifier,
        workspace / "yolo",
        resolve_weights(classifier.weights, workspace),
        lambda row: tracking.log_curves(pd.DataFrame([row]), "epoch", "classifier"),
    )
    effective = {f"classifier_effective.{name}": str(value) for name, value in history.attrs["effective"].items()}
    tracking.set_tags(classifier_weights=classifier.weights or "from scratch", **effective)
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
    """Classify every test cell, and the compared cells of the validation split and of the model.

    Returns:
        One row a cell: source ("real", "val", "synthetic"), row (in its table), compared (whether it is among the n),
        label, predicted, probability (of the positive class), confidence, person and smear (empty for synthetic).
    """
    sources = {
        "real": (cells, cell_table, np.flatnonzero(cell_table["split"] == "test")),
        "val": (cells, cell_table, np.array(compared_rows["val"])),
        "synthetic": (synthetic_cells, synthetic_table, np.array(compared_rows["synthetic"])),
    }
    parts = []
    for source, (images, table, rows) in sources.items():
        probabilities = predict(yolo_classifier, images[rows], device=classifier.device)
        chosen = table.iloc[rows].reindex(columns=["label", "person", "smear"]).fillna("")
        parts.append(
            chosen.assign(
                source=source,
                row=rows,
                compared=np.isin(rows, compared_rows[source]),
                predicted=np.array(class_names)[probabilities.argmax(axis=1)],
                probability=probabilities[:, class_names.index(comparison.positive_class)],
                confidence=probabilities.max(axis=1),
            )
        )
    return pd.concat(parts, ignore_index=True)


def measure_classifier(
    predictions: pd.DataFrame, comparison: ComparisonParameters
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Metrics on the test cells with intervals, and the share of each side recognised as intended."""
    test = predictions[predictions["source"] == "real"]
    metrics = classification_metrics(
        test, comparison.positive_class, comparison.resamples, comparison.confidence, comparison.seed
    )
    recognised = {
        source: recognised_as_intended(part)
        for source, part in predictions[predictions["compared"]].groupby("source")
        if source != "val"  # the classifier's epoch was chosen by those
    }
    result = {"unseen": metrics, "recognised_as_intended": recognised}
    tracking.log_metrics({"accuracy": metrics["accuracy"]["value"]})
    return result, confusion(test, sorted(test["label"].unique()))


def compare_distributions(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    predictions: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    dataset_summary: dict[str, Any],
    comparison: ComparisonParameters,
) -> tuple[pd.DataFrame, dict[str, dict[str, NDArray[np.int64]]]]:
    """Chi-square and KL tests of synthetic against unseen real cells, with the same of real against real beside."""
    rng = np.random.default_rng(comparison.seed)
    images = {"real": cells, "floor": cells, "synthetic": synthetic_cells}
    pixels, pixels_of = {}, {}
    for side, source in images.items():
        rows = np.array(compared_rows[side])
        pixels[side] = distribution.intensity_histograms(
            source[rows], comparison.bins, tuple(dataset_summary["background"]), comparison.foreground_threshold
        )
        table = synthetic_table if side == "synthetic" else cell_table
        pixels_of[side] = table.iloc[rows].reindex(columns=["label", "person"])
    scores, scores_of = {}, {}
    for side, source in {"real": "real", "floor": "val", "synthetic": "synthetic"}.items():
        scores_of[side] = predictions[(predictions["source"] == source) & predictions["compared"]]
        scores[side] = {
            "score": distribution.score_histograms(scores_of[side]["probability"].to_numpy(), comparison.bins)
        }
    tests = [
        distribution.results_table(histograms, of, comparison.resamples, comparison.confidence, rng)
        for histograms, of in ((pixels, pixels_of), (scores, scores_of))
    ]
    summed = {
        variable: {side: parts[variable].sum(axis=0) for side, parts in histograms.items()}
        for histograms in (pixels, scores)
        for variable in histograms["real"]
    }
    return pd.concat(tests, ignore_index=True), summed


def draw_synthetic_beside_real(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    dataset_summary: dict[str, Any],
) -> Figure:
    """Figure 2: synthetic cells beside unseen ones, by class."""
    unseen = cell_table.index[cell_table["split"] == "test"]
    return sheets.beside(
        cells[unseen],
        cell_table.loc[unseen, "label"],
        synthetic_cells,
        synthetic_table["label"],
        _what(dataset_summary),
    )


def draw_classified(cells: NDArray[np.uint8], predictions: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """Figure 3: some test cells, classified."""
    shown = predictions[(predictions["source"] == "real") & predictions["compared"]]
    return figures.classified_samples(cells[shown["row"].to_numpy()], shown, _what(dataset_summary))


def draw_confusion(
    confusion_counts: pd.DataFrame, classification_metrics: dict[str, Any], dataset_summary: dict[str, Any]
) -> Figure:
    """Figure 4: confusion matrix on the test cells."""
    accuracy = classification_metrics["unseen"]["accuracy"]
    return figures.confusion_matrix(confusion_counts, accuracy, _what(dataset_summary))


def draw_curves(yolo_history: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """Figure 5: learning curves of the classifier."""
    return figures.classifier_curves(yolo_history, dataset_summary["images"])


def draw_distributions(
    compared_histograms: dict[str, dict[str, NDArray[np.int64]]],
    distribution_tests: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    dataset_summary: dict[str, Any],
) -> Figure:
    """Figure 6: distributions and effect sizes."""
    number = len(compared_rows["real"])
    return figures.distributions(compared_histograms, distribution_tests, number, _what(dataset_summary))


def summarise_study(
    dataset_summary: dict[str, Any],
    synthetic_table: pd.DataFrame,
    synthetic_lineage: dict[str, Any],
    yolo_history: pd.DataFrame,
    classification_metrics: dict[str, Any],
    distribution_tests: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
) -> dict[str, Any]:
    """Every headline number with what it rests on."""
    tests = {
        f"{row.variable}/{row.group}": row._asdict()
        for row in distribution_tests.drop(columns="bins").itertuples(index=False)
    }
    sampled = synthetic_table.iloc[0]
    summary = {
        "dataset": dataset_summary,
        "ddpm": {
            "identity": synthetic_lineage["identity"],
            "epochs": synthetic_lineage["epochs"],
            "images_seen": synthetic_lineage["images_seen"],
            "process": synthetic_lineage["process"],
            "training": synthetic_lineage["training"],
            "trained_on_current_cells": synthetic_lineage["cells_fingerprint"] == dataset_summary["fingerprint"],
            "sampling": {
                "solver": str(sampled["solver"]),
                "evaluations": int(sampled["evaluations"]),
                "seed": int(sampled["seed"]),
                "cells": len(synthetic_table),
            },
        },
        "classifier": {
            "initial_weights": classifier.weights or "from scratch",
            "parameters": classifier.model_dump(mode="json"),
            "best_val_accuracy": float(yolo_history["val_accuracy"].max()),
        },
        "n": {"real": len(compared_rows["real"]), "synthetic": len(compared_rows["synthetic"])},
        "confidence": comparison.confidence,
        "seed": comparison.seed,
        "classification": classification_metrics,
        "distribution_tests": tests,
        "code_version": tracking.code_version(),
    }
    tracking.log_metrics(summary)
    return summary


def write_report(
    summary: dict[str, Any], distribution_tests: pd.DataFrame, rejected_cells: pd.DataFrame, *figure_files: bytes
) -> str:
    """One HTML file with everything in it."""
    return render_report(summary, distribution_tests, rejected_cells, figure_files)


def _what(dataset_summary: dict[str, Any]) -> str:
    return f"{dataset_summary['images']} of {dataset_summary['unseen']}"
