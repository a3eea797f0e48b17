"""Nodes of the folds pipeline."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.lineage import refuse_other_split
from malaria_diffusion.cells.split import SplitParameters, assign_splits, training_rows
from malaria_diffusion.classifier.config import ClassifierParameters, FoldParameters, Recipe
from malaria_diffusion.classifier.cross_validation import Fold, judge, person_folds
from malaria_diffusion.classifier.metrics import (
    accuracy_of_groups,
    at_threshold,
    choose_threshold,
    classification_metrics,
    reliability,
)
from malaria_diffusion.classifier.mistakes import confident_mistakes, disputed_labels
from malaria_diffusion.classifier.trainer import resolve_weights
from malaria_diffusion.figures import classifier as figures
from malaria_diffusion.observer import Observer, observer
from malaria_diffusion.questions.acquisition.errors_figure import errors_figure
from malaria_diffusion.questions.acquisition.measure import explained_errors, name_factors
from malaria_diffusion.questions.descriptors.describe import image_factors
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)

BY_CELL, BY_PERSON, FOLDS = "split by cell", "split by person", "folds by person"
MISTAKES_SHOWN = 24


def judge_protocols(
    cells: Cells,
    class_names: list[str],
    split: SplitParameters,
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    folds: FoldParameters,
    workspace: Path,
) -> pd.DataFrame:
    """Train and judge the classifier under every protocol; a training that is finished already is not repeated.

    The cells are split once more by the other strategy, and must be split by the same parameters as these say.

    Returns:
        One row a judged cell and protocol: protocol, fold, threshold (chosen on the fold's validation cells; one half
        without a positive class or for more than two classes), and the columns of `prediction_table`.
    """
    refuse_other_split(cells.table, cells.about["split_strategy"], split)
    protocols = {FOLDS: person_folds(cells.table, folds.number, folds.seed)}
    for name, strategy in ((BY_PERSON, "person"), (BY_CELL, "cell")):
        table = cells.table
        if strategy != cells.about["split_strategy"]:
            table = assign_splits(table[["path", "name", "label"]], split.model_copy(update={"strategy": strategy}))
        sides = (training_rows(table), table["split"] == "val", table["split"] == "test")
        protocols[name] = [Fold(*(np.flatnonzero(side) for side in sides))]
    weights = resolve_weights(classifier.weights, workspace)
    parts = []
    for protocol, listed in protocols.items():
        for number, fold in enumerate(listed, 1):
            logger.info("%s, training %d of %d: %d cells", protocol, number, len(listed), len(fold.train))
            positive = comparison.positive_class
            with observer().child_run(
                f"{protocol}, training {number}", {"protocol": protocol, "fold": number}
            ) as child:
                epoch = partial(_log_epoch, f"{protocol}.{number}", child)
                val, test = judge(cells, fold, positive, Recipe(classifier, workspace / "yolo", weights), epoch)
                right = {side: _accuracy(table) for side, table in (("val", val), ("test", test))}
                child.log_metrics({"accuracy": right})
            threshold = choose_threshold(val, positive) if positive is not None and len(class_names) == 2 else 0.5
            parts.append(test.assign(protocol=protocol, fold=number, threshold=threshold))
    return pd.concat(parts, ignore_index=True)


def _log_epoch(training: str, child: Observer, row: dict[str, float]) -> None:
    observer().log_curves(pd.DataFrame([row]), training)
    child.log_curves(pd.DataFrame([row]), "classifier")


def _accuracy(predictions: pd.DataFrame) -> float:
    return float((predictions["label"] == predictions["predicted"]).mean())


def measure_protocols(
    protocol_predictions: pd.DataFrame, cells: Cells, comparison: ComparisonParameters
) -> pd.DataFrame:
    """Every metric of every protocol, at a threshold of one half and at the one chosen on validation cells.

    Returns:
        One row a protocol, threshold rule and metric: value, low, high, cells, people, and the data's fingerprint.
    """
    rows = []
    for protocol, predictions in protocol_predictions.groupby("protocol", sort=False):
        judged = {"one half": predictions}
        if comparison.positive_class is not None and predictions["label"].nunique() == 2:
            judged["by validation"] = at_threshold(predictions, comparison.positive_class, predictions["threshold"])
        for rule, table in judged.items():
            metrics = classification_metrics(table, comparison.positive_class, comparison.confidence)
            if rule != "one half":  # of the probabilities, whatever the threshold
                del metrics["auc"], metrics["ece"]
            common: dict[str, Any] = {"cells": len(table), "people": table["person"].nunique()}
            common["fingerprint"] = cells.fingerprint
            rows += [
                {"protocol": protocol, "threshold": rule, "metric": name} | metric | common
                for name, metric in metrics.items()
            ]
            observer().log_metrics({f"{protocol} - threshold {rule}": metrics})
    return pd.DataFrame(rows)


def measure_people(protocol_predictions: pd.DataFrame, comparison: ComparisonParameters) -> pd.DataFrame:
    """Accuracy of each person, and of each slide as one microscope saw it, the worst first (of the folds)."""
    predictions = protocol_predictions[protocol_predictions["protocol"] == FOLDS]
    return accuracy_of_groups(predictions, comparison.confidence)


def list_disputed_labels(protocol_predictions: pd.DataFrame) -> pd.DataFrame:
    """Cells whose label the folds confidently dispute, for review; no label is changed."""
    disputed = disputed_labels(protocol_predictions[protocol_predictions["protocol"] == FOLDS])
    logger.info("%d labels are disputed", len(disputed))
    return disputed[["row", "label", "predicted", "confidence", "person", "smear"]]


def explain_errors(
    cells: Cells,
    protocol_predictions: pd.DataFrame,
    comparison: ComparisonParameters,
) -> pd.DataFrame:
    """How well conditions of acquisition tell the cells that the folds got wrong, or why that cannot be tested."""
    folds = protocol_predictions[protocol_predictions["protocol"] == FOLDS].reset_index(drop=True)
    rows = folds["row"].to_numpy(dtype=int)
    named = name_factors(cells.table["name"].iloc[rows])
    factors = (
        image_factors(cells.pixels, cells.background, comparison.foreground_threshold).iloc[rows].reset_index(drop=True)
    )
    judged = pd.concat([factors, named, folds[["label", "predicted", "person"]]], axis=1)
    found = explained_errors(judged, comparison.confidence, comparison.seed)
    return pd.concat(found, ignore_index=True).drop(columns="target")


def draw_errors(
    protocol_predictions: pd.DataFrame,
    disputed_labels: pd.DataFrame,
    errors_explained: pd.DataFrame,
    cells: Cells,
    comparison: ComparisonParameters,
) -> Figure:
    """Whose cells the folds got wrong, which kinds of errors they are, and what goes with them."""
    folds = protocol_predictions[protocol_predictions["protocol"] == FOLDS]
    return errors_figure(folds, disputed_labels, errors_explained, cells.kind, comparison.seed)


def draw_reliability(protocol_predictions: pd.DataFrame, protocol_metrics: pd.DataFrame, cells: Cells) -> Figure:
    """How far the classifier's confidence can be believed, by protocol."""
    ece = protocol_metrics[protocol_metrics["metric"] == "ece"].set_index("protocol")["value"]
    tables = {
        f"{protocol} (ECE {ece[protocol]:.3f})": reliability(part)
        for protocol, part in protocol_predictions.groupby("protocol", sort=False)
    }
    return figures.reliability_figure(tables, cells.kind)


def draw_people(accuracy_by_person: pd.DataFrame, cells: Cells) -> Figure:
    """Accuracy of every person, the worst named."""
    people = accuracy_by_person[accuracy_by_person["of"] == "person"]
    return figures.people_figure(people, cells.kind)


def draw_mistakes(cells: Cells, protocol_predictions: pd.DataFrame) -> Figure:
    """The most confident wrong answers of the folds."""
    folds = protocol_predictions[protocol_predictions["protocol"] == FOLDS]
    mistakes = confident_mistakes(folds, MISTAKES_SHOWN)
    return figures.mistakes_figure(cells[mistakes["row"].to_numpy(dtype=int)].pixels, mistakes, cells.kind)
