"""What a pathologist reads in a cell."""

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.questions.acquisition.measure import name_factors
from malaria_diffusion.questions.descriptors import figure as figures
from malaria_diffusion.questions.descriptors.describe import describe, image_factors
from malaria_diffusion.questions.descriptors.measure import associations, distance_tests
from malaria_diffusion.questions.question import Step
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


def draw_descriptors(
    described_cells: dict[str, dict[str, pd.DataFrame]],
    descriptor_tests: pd.DataFrame,
    comparison: Comparison,
) -> Figure:
    """Distributions of every descriptor by class."""
    described = {side: parts["descriptors"] for side, parts in described_cells.items()}
    cells = {side: parts["cells"] for side, parts in described_cells.items()}
    return figures.descriptor_distributions(described, cells, descriptor_tests, comparison.title("Descriptors"))


def draw_associations(
    descriptor_correlations: pd.DataFrame, association_differences: pd.DataFrame, comparison: Comparison
) -> Figure:
    """Correlation matrices side by side."""
    title = comparison.title("How descriptors go together")
    return figures.association_matrices(descriptor_correlations, association_differences, title)


STEPS = (
    Step(describe_cells, ("comparison", "predictions", "params:validation.comparison"), "described_cells"),
    Step(
        compare_descriptors,
        ("described_cells", "params:validation.comparison"),
        ("descriptor_tests", "descriptor_correlations", "association_differences"),
    ),
    Step(draw_descriptors, ("described_cells", "descriptor_tests", "comparison"), "figure_descriptors"),
    Step(
        draw_associations, ("descriptor_correlations", "association_differences", "comparison"), "figure_associations"
    ),
)
