"""What a pathologist reads in a cell, and what acquisition has to do with it."""

from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.questions.acquisition.figure import acquisition_factors
from malaria_diffusion.questions.acquisition.measure import associations_kept, explained_by_factors, name_factors
from malaria_diffusion.questions.descriptors import figure as figures
from malaria_diffusion.questions.descriptors.describe import describe, image_factors
from malaria_diffusion.questions.descriptors.measure import associations, distance_tests
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters


def describe_cells(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    predictions: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    dataset_summary: dict[str, Any],
    comparison: ComparisonParameters,
) -> dict[str, dict[str, pd.DataFrame]]:
    """Descriptors and factors of the compared cells, by side.

    Returns:
        By side "descriptors", "factors" and "cells" (label, person; of unseen ones also predicted).
    """
    background = tuple(dataset_summary["background"])
    unseen = predictions[predictions["source"] == "real"].set_index("row")["predicted"]
    described = {}
    for side in ("real", "floor", "synthetic"):
        rows = np.array(compared_rows[side])
        images, table = (synthetic_cells, synthetic_table) if side == "synthetic" else (cells, cell_table)
        measured = image_factors(images[rows], background, comparison.foreground_threshold)
        who = table.iloc[rows].reindex(columns=["label", "person"])
        if side == "real":
            who["predicted"] = unseen.loc[rows].to_numpy()
            measured = pd.concat([measured, name_factors(table["name"].iloc[rows].reset_index(drop=True))], axis=1)
        described[side] = {
            "descriptors": describe(images[rows], background, comparison.foreground_threshold),
            "factors": measured,
            "cells": who.reset_index(drop=True),
        }
    return described


def compare_descriptors(
    described_cells: dict[str, dict[str, pd.DataFrame]], comparison: ComparisonParameters
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Distances of every descriptor, and how descriptors go together, beside their floors."""
    bootstrap = Bootstrap.of(comparison)
    described = {side: parts["descriptors"] for side, parts in described_cells.items()}
    cells = {side: parts["cells"] for side, parts in described_cells.items()}
    tests = distance_tests(described, cells, bootstrap)
    found = associations(described, cells, bootstrap)
    return tests, found.correlations, found.differences


def explain_acquisition(
    described_cells: dict[str, dict[str, pd.DataFrame]], comparison: ComparisonParameters
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What acquisition factors explain, which cannot be tested, and whether synthetic cells keep their associations."""
    real, floor, synthetic = (
        pd.concat([described_cells[side]["factors"], described_cells[side]["cells"]], axis=1)
        for side in ("real", "floor", "synthetic")
    )
    positive, seed = comparison.positive_class, comparison.seed
    explained = explained_by_factors(real, floor, synthetic, positive, Bootstrap.of(comparison), seed)
    kept = associations_kept(real, floor, synthetic, positive, Bootstrap.of(comparison))
    return explained.table, explained.untestable, kept


def draw_descriptors(
    described_cells: dict[str, dict[str, pd.DataFrame]],
    descriptor_tests: pd.DataFrame,
    dataset_summary: dict[str, Any],
) -> Figure:
    """Distributions of every descriptor by class."""
    described = {side: parts["descriptors"] for side, parts in described_cells.items()}
    cells = {side: parts["cells"] for side, parts in described_cells.items()}
    return figures.descriptor_distributions(described, cells, descriptor_tests, _title("Descriptors", dataset_summary))


def draw_associations(
    descriptor_correlations: pd.DataFrame, association_differences: pd.DataFrame, dataset_summary: dict[str, Any]
) -> Figure:
    """Correlation matrices side by side."""
    title = _title("How descriptors go together", dataset_summary)
    return figures.association_matrices(descriptor_correlations, association_differences, title)


def draw_acquisition(
    acquisition_explained: pd.DataFrame, acquisition_kept: pd.DataFrame, dataset_summary: dict[str, Any]
) -> Figure:
    """Factors of acquisition."""
    return acquisition_factors(acquisition_explained, acquisition_kept, _title("Acquisition", dataset_summary))


def create_pipeline() -> Pipeline:
    """Descriptors, their associations, and acquisition factors."""
    return Pipeline(
        [
            Node(
                describe_cells,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "predictions",
                    "compared_rows",
                    "dataset_summary",
                    "params:validation.comparison",
                ],
                outputs="described_cells",
                name="describe_cells",
            ),
            Node(
                compare_descriptors,
                inputs=["described_cells", "params:validation.comparison"],
                outputs=["descriptor_tests", "descriptor_correlations", "association_differences"],
                name="compare_descriptors",
            ),
            Node(
                explain_acquisition,
                inputs=["described_cells", "params:validation.comparison"],
                outputs=["acquisition_explained", "acquisition_untestable", "acquisition_kept"],
                name="explain_acquisition",
            ),
            Node(
                draw_descriptors,
                inputs=["described_cells", "descriptor_tests", "dataset_summary"],
                outputs="figure_descriptors",
                name="draw_descriptors",
            ),
            Node(
                draw_associations,
                inputs=["descriptor_correlations", "association_differences", "dataset_summary"],
                outputs="figure_associations",
                name="draw_associations",
            ),
            Node(
                draw_acquisition,
                inputs=["acquisition_explained", "acquisition_kept", "dataset_summary"],
                outputs="figure_acquisition",
                name="draw_acquisition",
            ),
        ]
    )


def _title(what: str, dataset_summary: dict[str, Any]) -> str:
    return f"{what} ({dataset_summary['images']} of {dataset_summary['unseen']}, others, and synthetic)"
