"""Which cells are compared."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.errors import UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.questions.distributions.measure import check_foreground
from malaria_diffusion.statistics.comparison import balanced_rows, per_class_number
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)

STUDIES = "utility"  # what can be run on its own needs these nodes as well


def plan_validation(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    dataset_summary: dict[str, Any],
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
) -> list[str]:
    """Find out, before anything is trained, whether what is asked for is possible; return the class names."""
    from malaria_diffusion.compute.device import resolve_device

    class_names = sorted(cell_table["label"].unique())
    if len(class_names) < 2:
        raise UserError(
            f"all images are of the class {class_names[0]!r}, and the validation needs a classifier, which needs two: "
            "run `kedro run --pipelines data_processing,diffusion`"
        )
    if comparison.positive_class is not None and comparison.positive_class not in class_names:
        raise UserError(
            f"validation.comparison.positive_class is {comparison.positive_class!r}, the classes are {class_names}; "
            "name one, or null if no class is the finding"
        )
    check_foreground(cells, cell_table["label"], tuple(dataset_summary["background"]), comparison.foreground_threshold)
    resolve_device(classifier.device)
    return class_names


def choose_cells(
    cell_table: pd.DataFrame, synthetic_table: pd.DataFrame, comparison: ComparisonParameters
) -> dict[str, list[int]]:
    """Choose the cells to compare.

    Returns:
        Rows of synthetic_table for "synthetic", and of cell_table for "real" (test split) and "floor" (training split
        without audit cells), as many of each; of cell_table for "val", at most as many: the floor of what the
        classifier says, as it was trained on the other one. All classes are equal in each.
    """
    test = cell_table[cell_table["split"] == "test"]
    trained_on = cell_table[training_rows(cell_table)]
    val = cell_table[cell_table["split"] == "val"]
    number = per_class_number(comparison.n, test, synthetic_table, trained_on)
    rng = np.random.default_rng(comparison.seed)
    rows = {
        "real": balanced_rows(test["label"], number, rng),
        "floor": balanced_rows(trained_on["label"], number, rng),
        "synthetic": balanced_rows(synthetic_table["label"], number, rng),
        "val": balanced_rows(val["label"], per_class_number(number * test["label"].nunique(), val), rng),
    }
    logger.info("comparing %d synthetic with %d unseen cells", len(rows["synthetic"]), len(rows["real"]))
    return {side: chosen.tolist() for side, chosen in rows.items()}


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
    return figures.beside(
        cells[unseen],
        cell_table.loc[unseen, "label"],
        synthetic_cells,
        synthetic_table["label"],
        f"{dataset_summary['images']} of {dataset_summary['unseen']}",
    )


def plan_node(name: str, tags: str | None = None) -> Node:
    """The node of `plan_validation`, with which every pipeline that judges a classifier begins."""
    return Node(
        plan_validation,
        inputs=[
            "cells",
            "cell_table",
            "dataset_summary",
            "params:validation.classifier",
            "params:validation.comparison",
        ],
        outputs="class_names",
        name=name,
        tags=tags,
    )


def create_pipeline() -> Pipeline:
    """The cells to compare, and Figure 2."""
    return Pipeline(
        [
            plan_node("plan_validation", STUDIES),
            Node(
                choose_cells,
                inputs=["cell_table", "synthetic_table", "params:validation.comparison"],
                outputs="compared_rows",
                name="choose_cells",
                tags=STUDIES,
            ),
            # compared_rows is an input, here and elsewhere, so that nothing is made for a comparison that is refused
            Node(
                draw_synthetic_beside_real,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "compared_rows",
                    "dataset_summary",
                ],
                outputs="figure_2_synthetic",
                name="draw_synthetic_beside_real",
            ),
        ]
    )
