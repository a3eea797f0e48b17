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
from malaria_diffusion.evaluation.classifier import resolve_weights
from malaria_diffusion.evaluation.features import embed, reported_space
from malaria_diffusion.evaluation.fidelity import Projection, fidelity_table
from malaria_diffusion.evaluation.parameters import ClassifierParameters, ComparisonParameters
from malaria_diffusion.figures.fidelity import fidelity
from malaria_diffusion.pipelines import tracking

logger = logging.getLogger(__name__)

FIT_CELLS = 4000


def measure_fidelity(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    yolo_classifier: Path,
    compared_rows: dict[str, list[int]],
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    workspace: Path,
) -> pd.DataFrame:
    """Kernel and Frechet distance, precision, recall, density and coverage, overall and by class.

    The projection is fitted on training people's cells that are not those of the floor.
    """
    space = reported_space(resolve_weights(classifier.weights, workspace), yolo_classifier, classifier)
    logger.info("feature space: %s, %d px", space.name, space.image_size)
    rng = np.random.default_rng(comparison.seed)
    others = np.setdiff1d(np.flatnonzero(training_rows(cell_table)), compared_rows["floor"])
    fit = np.sort(rng.permutation(others)[:FIT_CELLS])
    images = {"real": cells, "floor": cells, "synthetic": synthetic_cells}
    tables = {"real": cell_table, "floor": cell_table, "synthetic": synthetic_table}
    rows = {side: np.array(compared_rows[side]) for side in images}

    def see(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return embed(space.checkpoint, images, space.image_size, classifier.device)

    labels = {side: tables[side].iloc[rows[side]].reindex(columns=["label", "person"]) for side in rows}
    fewest = min(int(table["label"].value_counts().min()) for table in labels.values())
    project = Projection(see(cells[fit]), fewest)
    features = {side: project(see(images[side][rows[side]])) for side in rows}
    table = fidelity_table(features, labels, comparison.resamples, comparison.confidence, rng)
    for row in table.to_dict("records"):
        tracking.log_metrics({"fidelity": {f"{row['metric']}/{row['group']}": row}})
    return table.assign(space=space.name, dimensions=project.dimensions)


def draw_fidelity(fidelity_metrics: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """Every measure beside its floor."""
    return fidelity(fidelity_metrics, fidelity_metrics["space"].iloc[0], dataset_summary["images"])


def create_pipeline() -> Pipeline:
    """Feature distances and their figure."""
    return Pipeline(
        [
            Node(
                measure_fidelity,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "yolo_classifier",
                    "compared_rows",
                    "params:validation.classifier",
                    "params:validation.comparison",
                    "workspace",
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
