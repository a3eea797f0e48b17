"""Do synthetic cells have the intensities and the classifier's scores of real ones."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.questions.distributions import figure as figures
from malaria_diffusion.questions.distributions import measure
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.statistics.permutation import with_q_values


def compare_distributions(
    comparison: Comparison, predictions: pd.DataFrame, parameters: ComparisonParameters
) -> tuple[pd.DataFrame, dict[str, dict[str, NDArray[np.int64]]]]:
    """Chi-square and KL tests of synthetic against unseen real cells, with the same of real against real beside."""
    rng = np.random.default_rng(parameters.seed)
    pixels = {
        side: measure.intensity_histograms(
            cells.pixels, parameters.bins, comparison.study.background, parameters.foreground_threshold
        )
        for side, cells in comparison.sides.items()
    }
    scores, scores_of = {}, {}
    for side, source in {"real": "real", "floor": "val", "synthetic": "synthetic"}.items():
        scores_of[side] = predictions[(predictions["source"] == source) & predictions["compared"]]
        scores[side] = {"score": measure.score_histograms(scores_of[side]["probability"].to_numpy(), parameters.bins)}
    tests = [
        measure.results_table(histograms, of, parameters, rng)
        for histograms, of in ((pixels, comparison.tables), (scores, scores_of))
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
    comparison: Comparison,
) -> Figure:
    """Figure 6: distributions and effect sizes."""
    number, caption = len(comparison.unseen), comparison.study.caption
    return figures.distributions(compared_histograms, distribution_tests, number, caption)


STEPS = (
    Step(
        compare_distributions,
        ("comparison", "predictions", "params:validation.comparison"),
        ("distribution_tests", "compared_histograms"),
    ),
    Step(draw_distributions, ("compared_histograms", "distribution_tests", "comparison"), "figure_6_distributions"),
)
