"""Are synthetic cells like real ones, and as varied: distances and neighbourhoods in a feature space, beside floors."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.features import reported_space
from malaria_diffusion.classifier.trainer import resolve_weights
from malaria_diffusion.questions.fidelity.figure import fidelity
from malaria_diffusion.questions.fidelity.measure import ProjectedSpace, Projection, fidelity_table
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.tracking import log as tracking

logger = logging.getLogger(__name__)

FIT_CELLS = 4000


def fit_feature_space(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    yolo_classifier: Path,
    compared_rows: dict[str, list[int]],
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    workspace: Path,
) -> ProjectedSpace:
    """The space that fidelity and novelty are judged in, fitted on training people's cells that are not the floor's."""
    network = reported_space(resolve_weights(classifier.weights, workspace), yolo_classifier, classifier)
    logger.info("feature space: %s, %d px", network.name, network.image_size)
    others = np.setdiff1d(np.flatnonzero(training_rows(cell_table)), compared_rows["floor"])
    fit = np.sort(np.random.default_rng(comparison.seed).permutation(others)[:FIT_CELLS])
    per_class = len(compared_rows["real"]) // cell_table["label"].nunique()
    projection = Projection(network.embed(cells[fit], classifier.device), per_class)
    return ProjectedSpace(network, projection, classifier.device)


def measure_fidelity(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    feature_space: ProjectedSpace,
    comparison: ComparisonParameters,
) -> pd.DataFrame:
    """Kernel and Frechet distance, precision, recall, density and coverage, overall and by class."""
    sides = {
        "real": (cells, cell_table),
        "floor": (cells, cell_table),
        "synthetic": (synthetic_cells, synthetic_table),
    }
    rows = {side: np.array(compared_rows[side]) for side in sides}
    features = {side: feature_space(images[rows[side]]) for side, (images, _) in sides.items()}
    labels = {side: table.iloc[rows[side]].reindex(columns=["label", "person"]) for side, (_, table) in sides.items()}
    table = fidelity_table(features, labels, Bootstrap.of(comparison))
    for row in table.to_dict("records"):
        tracking.log_metrics({"fidelity": {f"{row['metric']} of {row['group']}": row["value"]}})
    return table.assign(space=feature_space.network.name, dimensions=feature_space.projection.dimensions)


def draw_fidelity(fidelity_metrics: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """Every measure beside its floor."""
    return fidelity(fidelity_metrics, fidelity_metrics["space"].iloc[0], dataset_summary["images"])


def create_pipeline() -> Pipeline:
    """Feature distances and their figure."""
    return Pipeline(
        [
            Node(
                fit_feature_space,
                inputs=[
                    "cells",
                    "cell_table",
                    "yolo_classifier",
                    "compared_rows",
                    "params:validation.classifier",
                    "params:validation.comparison",
                    "workspace",
                ],
                outputs="feature_space",
                name="fit_feature_space",
            ),
            Node(
                measure_fidelity,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "compared_rows",
                    "feature_space",
                    "params:validation.comparison",
                ],
                outputs="fidelity_metrics",
                name="measure_fidelity",
            ),
            Node(
                draw_fidelity,
                inputs=["fidelity_metrics", "dataset_summary"],
                outputs="figure_fidelity",
                name="draw_fidelity",
            ),
        ]
    )
