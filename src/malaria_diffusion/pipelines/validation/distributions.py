"""Do synthetic cells have the intensities and the classifier's scores of real ones."""

from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.questions.distributions import figure as figures
from malaria_diffusion.questions.distributions import measure as distribution
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.statistics.permutation import with_q_values


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
    bootstrap = Bootstrap.of(comparison)
    images = {"real": cells, "floor": cells, "synthetic": synthetic_cells}
    pixels, pixels_of = {}, {}
    for side, shown in images.items():
        rows = np.array(compared_rows[side])
        pixels[side] = distribution.intensity_histograms(
            shown[rows], comparison.bins, tuple(dataset_summary["background"]), comparison.foreground_threshold
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
        distribution.results_table(histograms, of, bootstrap, comparison.permutations)
        for histograms, of in ((pixels, pixels_of), (scores, scores_of))
    ]
    summed = {
        variable: {side: parts[variable].sum(axis=0) for side, parts in histograms.items()}
        for histograms in (pixels, scores)
        for variable in histograms["real"]
    }
    return with_q_values(pd.concat(tests, ignore_index=True)), summed


def draw_distributions(
    compared_histograms: dict[str, dict[str, NDArray[np.int64]]],
    distribution_tests: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    dataset_summary: dict[str, Any],
) -> Figure:
    """Figure 6: distributions and effect sizes."""
    number = len(compared_rows["real"])
    return figures.distributions(
        compared_histograms, distribution_tests, number, f"{dataset_summary['images']} of {dataset_summary['unseen']}"
    )


def create_pipeline() -> Pipeline:
    """Chi-square and KL tests, by pixel and by image, and Figure 6."""
    return Pipeline(
        [
            Node(
                compare_distributions,
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
                outputs=["distribution_tests", "compared_histograms"],
                name="compare_distributions",
            ),
            Node(
                draw_distributions,
                inputs=["compared_histograms", "distribution_tests", "compared_rows", "dataset_summary"],
                outputs="figure_6_distributions",
                name="draw_distributions",
            ),
        ]
    )
