"""Nodes of the generative pipeline."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.predictor import load_predictor
from malaria_diffusion.classifier.trainer import resolve_weights
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import UserError
from malaria_diffusion.observer import observer
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.studies.generative import figure as figures
from malaria_diffusion.studies.generative.anomalies import Detector, Planted, anomaly_table, planted_kinds
from malaria_diffusion.studies.generative.classifier import GenerativeClassifier, some_of_each
from malaria_diffusion.studies.generative.config import GenerativeParameters
from malaria_diffusion.studies.generative.low_data import FewPeople
from malaria_diffusion.studies.generative.maps import explain
from malaria_diffusion.studies.generative.panel import (
    Panel,
    agreement,
    cost,
    judged_table,
    judges_table,
    rule_summary,
)
from malaria_diffusion.studies.generative.shift import shift_table

logger = logging.getLogger(__name__)


def fit_classifier(
    ddpm: DiffusionModel, cells: Cells, comparison: ComparisonParameters, generative: GenerativeParameters
) -> GenerativeClassifier:
    """Choose the noise to look at, and what each loss is worth, by validation people's cells."""
    if comparison.positive_class not in (None, *cells.class_names):
        raise UserError(
            f"validation.comparison.positive_class is {comparison.positive_class!r}, the classes are "
            f"{cells.class_names}; name one, or null if no class is the finding"
        )
    some_of_each(cells.part("test"), generative.cells, generative.seed)  # refused before the work, if at all
    model = GenerativeClassifier.fit(ddpm, cells, generative)
    timesteps = [model.rule.levels[place].t for place in model.rule.plan]
    logger.info("at most %d looks at a cell under each class, at timesteps %s", len(timesteps), timesteps)
    return model


def fit_panel(
    generative_classifier: GenerativeClassifier, yolo_classifier: Path, generative: GenerativeParameters
) -> Panel:
    """Weigh the diffusion model and YOLOv8 by validation people's cells."""
    return Panel.fit(generative_classifier, load_predictor(yolo_classifier, device=generative.device))


def judge_cells(
    panel: Panel, cells: Cells, comparison: ComparisonParameters, generative: GenerativeParameters
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Ask both classifiers about cells of test people.

    Returns:
        One row a cell and judge; what it costs and which rule was followed.
    """
    test = some_of_each(cells.part("test"), generative.cells, generative.seed)
    judged = panel.judge(test.pixels, test.places)
    facts = {"cost": cost(judged, panel.model), "rule": rule_summary(panel.model)}
    return judged_table(judged, test, comparison.positive_class), facts


def measure_judges(
    generative_predictions: pd.DataFrame, comparison: ComparisonParameters, generative_cost: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Accuracy, AUC and calibration of every judge, with intervals over people, and how far they agree."""
    table = judges_table(generative_predictions, comparison)
    summary = {"agreement": agreement(generative_predictions, comparison.confidence)} | generative_cost
    metrics = {
        judge: dict(zip(rows["metric"], rows["value"], strict=True)) for judge, rows in table.groupby("classifier")
    }
    observer().log_metrics({"generative": metrics | {key: summary[key] for key in ("agreement", "cost")}})
    return table, summary


def draw_judges(
    generative_metrics: pd.DataFrame,
    generative_predictions: pd.DataFrame,
    generative_summary: dict[str, Any],
    cells: Cells,
) -> Figure:
    """Every judge on unseen people, where the model looks, and what a cell costs."""
    return figures.judges_figure(generative_metrics, generative_predictions, generative_summary["rule"], cells.caption)


def draw_maps(
    generative_classifier: GenerativeClassifier,
    cells: Cells,
    comparison: ComparisonParameters,
    generative: GenerativeParameters,
) -> Figure:
    """Where in cells of unseen people the hypotheses differ."""
    rng = np.random.default_rng(generative.seed)
    maps = explain(generative_classifier, cells.part("test"), generative.maps, comparison.positive_class, rng)
    return figures.maps_figure(maps, cells.caption)


def measure_anomalies(
    generative_classifier: GenerativeClassifier,
    cells: Cells,
    comparison: ComparisonParameters,
    generative: GenerativeParameters,
) -> pd.DataFrame:
    """Plant cells unlike any in training and see which scores find them."""
    draws = generative.anomalies.draws
    detector = Detector.fit(generative_classifier, draws)
    kinds = _planted(cells, comparison, generative)
    losses = {
        kind: generative_classifier.typicality(planted.pixels, planted.keys, draws) for kind, planted in kinds.items()
    }
    table = anomaly_table(detector, kinds, losses, comparison.confidence)
    found = {kind: dict(zip(rows["score"], rows["auc"], strict=True)) for kind, rows in table.groupby("kind")}
    observer().log_metrics({"generative_anomalies": found})
    return table


def draw_anomalies(
    generative_anomalies: pd.DataFrame, cells: Cells, comparison: ComparisonParameters, generative: GenerativeParameters
) -> Figure:
    """A cell of each planted kind, and how well it is found."""
    return figures.anomalies_figure(generative_anomalies, _planted(cells, comparison, generative), cells.caption)


def measure_shift(
    panel: Panel, cells: Cells, comparison: ComparisonParameters, generative: GenerativeParameters
) -> pd.DataFrame:
    """Change stain and focus in steps and ask both classifiers at each."""
    test = some_of_each(cells.part("test"), generative.shift.cells, generative.seed)
    table = shift_table(panel, test, generative.shift, comparison)
    found = {
        f"{change} {amount:g}": dict(zip(rows["classifier"], rows["accuracy"], strict=True))
        for (change, amount), rows in table.groupby(["change", "amount"])
    }
    observer().log_metrics({"generative_shift": found})
    return table


def draw_shift(generative_shift: pd.DataFrame, cells: Cells) -> Figure:
    """Accuracy of both classifiers as stain and focus change."""
    return figures.shift_figure(generative_shift, cells.caption)


def measure_low_data(
    ddpm: DiffusionModel,
    cells: Cells,
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    generative: GenerativeParameters,
    workspace: Path,
) -> pd.DataFrame:
    """Train a DDPM and a YOLOv8 on the same few people and judge both on unseen ones."""
    folder, weights = workspace / "generative", resolve_weights(classifier.weights, workspace)
    study = FewPeople(cells, ddpm.lineage, classifier, comparison, generative, folder, weights)
    table = study.table()
    found = {
        f"{name} at share {share:g}": dict(zip(rows["metric"], rows["value"], strict=True))
        for (name, share), rows in table.groupby(["classifier", "share"])
    }
    observer().log_metrics({"generative_low_data": found})
    return table


def _planted(cells: Cells, comparison: ComparisonParameters, generative: GenerativeParameters) -> dict[str, Planted]:
    test = some_of_each(cells.part("test"), generative.anomalies.cells, generative.seed)
    return planted_kinds(test, comparison.foreground_threshold, generative.seed)
