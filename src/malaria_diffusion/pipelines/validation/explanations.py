"""What the classifier looks at, in real and in synthetic cells."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.phantom.draw import PhantomParameters
from malaria_diffusion.cells.phantom.masks import phantom_masks
from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.predictor import load_predictor, random_classifier
from malaria_diffusion.questions.descriptors.describe import dark_mask
from malaria_diffusion.questions.distributions.measure import foreground
from malaria_diffusion.questions.explanations.config import ExplanationParameters
from malaria_diffusion.questions.explanations.figure import explained_cells
from malaria_diffusion.questions.explanations.measure import ExplainedCells, choose, explain, results_table
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import MOST_CLASSES
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)

DARK_SPOTS, DRAWN = "dark spots", "parasites as drawn"
RANDOM_NETWORKS = 4
TYPICAL_CELLS = 256


def explain_classifier(
    yolo_classifier: Path,
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    class_names: list[str],
    dataset_summary: dict[str, Any],
    packing: PackingParameters,
    phantom: PhantomParameters,
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    explanations: ExplanationParameters,
) -> tuple[pd.DataFrame, dict[str, ExplainedCells]]:
    """SHAP attributions of some compared cells by the trained classifier and, to check the method, by random ones.

    Explained is the positive class or, without one, each cell's own; of more than ten classes the first ten. It is the
    network's answer to a cell as it is, also where answers are otherwise the mean of eight views
    (`test_time_augmentation`): all eight would take eight times as long.

    Returns:
        `results_table` for the dark spots and, where the cells are phantom cells whose parasites are known, for these
        (column mask); and the explained cells.
    """
    bootstrap = Bootstrap.of(comparison)
    rng = bootstrap.rng
    background, threshold = tuple(dataset_summary["background"]), comparison.foreground_threshold
    trained = load_predictor(yolo_classifier, device=classifier.device, test_time_augmentation=False)
    typical = rng.permutation(np.flatnonzero(training_rows(cell_table)))[:TYPICAL_CELLS]
    typical_cells = cells[np.sort(typical)]
    random = [
        random_classifier(yolo_classifier, typical_cells, seed, device=classifier.device)
        for seed in range(RANDOM_NETWORKS)
    ]
    sides, drawn = {}, None
    for side, images, table in (("real", cells, cell_table), ("synthetic", synthetic_cells, synthetic_table)):
        rows = np.array(compared_rows[side])
        rows = rows[table["label"].iloc[rows].isin(class_names[:MOST_CLASSES])]
        labels = table["label"].iloc[rows].to_numpy(dtype=str)
        units = table["person"].iloc[rows].to_numpy(dtype=str) if side == "real" else rows.astype(str)
        count = min(explanations.cells, int(np.unique(labels, return_counts=True)[1].min()))
        chosen = choose(labels, units, count, rng)
        shown = images[rows[chosen]]
        asked = labels[chosen] if comparison.positive_class is None else [comparison.positive_class] * len(chosen)
        positive = np.array([class_names.index(name) for name in asked])
        settings = (background, threshold, explanations.evaluations, comparison.seed)
        by_chance = np.empty((len(shown), *shown.shape[-2:]), np.float32)
        for number, network in enumerate(random):  # each explains some, so that the ratio holds the chance of weights
            part = slice(number, None, RANDOM_NETWORKS)
            if len(shown[part]):
                by_chance[part] = explain(network, shown[part], positive[part], *settings)
        sides[side] = ExplainedCells(
            shown,
            foreground(shown, background, threshold),
            dark_mask(shown, background, threshold),
            explain(trained, shown, positive, *settings),
            by_chance,
            labels[chosen],
            units[chosen],
        )
        if side == "real" and dataset_summary["images"] == "phantom cells":
            names = cell_table["name"].iloc[rows[chosen]].tolist()
            drawn = phantom_masks(shown, names, phantom, packing)
            if drawn is None:
                logger.warning("these are not the phantom cells that `phantom` draws: their parasites are not known")
    tables = [results_table(sides, bootstrap).assign(mask=DARK_SPOTS)]
    if drawn is not None:
        known = {"real": sides["real"]._replace(masks=drawn)}
        tables.append(results_table(known, bootstrap).assign(mask=DRAWN))
    table = pd.concat(tables, ignore_index=True)
    return table, sides


def draw_explanations(
    explanations: pd.DataFrame,
    explained: dict[str, ExplainedCells],
    dataset_summary: dict[str, Any],
    comparison: ComparisonParameters,
) -> Figure:
    """Cells beside what speaks for the positive class, or for their own, in them."""
    images = f"{dataset_summary['images']} of {dataset_summary['unseen']}"
    by_spots = explanations[explanations["mask"] == DARK_SPOTS]
    return explained_cells(explained, by_spots, comparison.positive_class, images, DARK_SPOTS)


def create_pipeline() -> Pipeline:
    """SHAP: ratios and a figure."""
    return Pipeline(
        [
            Node(
                explain_classifier,
                inputs=[
                    "yolo_classifier",
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "compared_rows",
                    "class_names",
                    "dataset_summary",
                    "params:data_processing.packing",
                    "params:phantom",
                    "params:validation.classifier",
                    "params:validation.comparison",
                    "params:validation.explanations",
                ],
                outputs=["explanations", "explained"],
                name="explain_classifier",
            ),
            Node(
                draw_explanations,
                inputs=["explanations", "explained", "dataset_summary", "params:validation.comparison"],
                outputs="figure_explanations",
                name="draw_explanations",
            ),
        ]
    )
