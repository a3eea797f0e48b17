"""What a pathologist reads in a cell, and what acquisition has to do with it."""

import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure

from malaria_diffusion.questions.acquisition.figure import acquisition_factors
from malaria_diffusion.questions.acquisition.measure import associations_kept, explained_by_factors, name_factors
from malaria_diffusion.questions.descriptors import figure as figures
from malaria_diffusion.questions.descriptors.describe import describe, image_factors
from malaria_diffusion.questions.descriptors.measure import associations, distance_tests
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters


def describe_cells(
    comparison: Comparison, predictions: pd.DataFrame, parameters: ComparisonParameters
) -> dict[str, dict[str, pd.DataFrame]]:
    """Descriptors and factors of the compared cells, by side.

    Returns:
        By side "descriptors", "factors" and "cells" (label, person; of unseen ones also predicted).
    """
    background, threshold = comparison.study.background, parameters.foreground_threshold
    predicted = predictions[predictions["source"] == "real"].set_index("row")["predicted"]
    described = {}
    for side, cells in comparison.sides.items():
        measured = image_factors(cells.pixels, background, threshold)
        who = comparison.tables[side]
        if side == "real":
            who = who.assign(predicted=predicted.reindex(cells.places).to_numpy())
            names = cells.table["name"].reset_index(drop=True)
            measured = pd.concat([measured, name_factors(names)], axis=1)
        described[side] = {
            "descriptors": describe(cells.pixels, background, threshold),
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
    comparison: Comparison,
) -> Figure:
    """Distributions of every descriptor by class."""
    described = {side: parts["descriptors"] for side, parts in described_cells.items()}
    cells = {side: parts["cells"] for side, parts in described_cells.items()}
    return figures.descriptor_distributions(described, cells, descriptor_tests, _title("Descriptors", comparison))


def draw_associations(
    descriptor_correlations: pd.DataFrame, association_differences: pd.DataFrame, comparison: Comparison
) -> Figure:
    """Correlation matrices side by side."""
    title = _title("How descriptors go together", comparison)
    return figures.association_matrices(descriptor_correlations, association_differences, title)


def draw_acquisition(
    acquisition_explained: pd.DataFrame, acquisition_kept: pd.DataFrame, comparison: Comparison
) -> Figure:
    """Factors of acquisition."""
    return acquisition_factors(acquisition_explained, acquisition_kept, _title("Acquisition", comparison))


def create_pipeline() -> Pipeline:
    """Descriptors, their associations, and acquisition factors."""
    return Pipeline(
        [
            Node(
                describe_cells,
                inputs=["comparison", "predictions", "params:validation.comparison"],
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
                inputs=["described_cells", "descriptor_tests", "comparison"],
                outputs="figure_descriptors",
                name="draw_descriptors",
            ),
            Node(
                draw_associations,
                inputs=["descriptor_correlations", "association_differences", "comparison"],
                outputs="figure_associations",
                name="draw_associations",
            ),
            Node(
                draw_acquisition,
                inputs=["acquisition_explained", "acquisition_kept", "comparison"],
                outputs="figure_acquisition",
                name="draw_acquisition",
            ),
        ]
    )


def _title(what: str, comparison: Comparison) -> str:
    return f"{what} ({comparison.study.caption}, others, and synthetic)"
