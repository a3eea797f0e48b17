"""What the conditions of acquisition explain."""

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.questions.acquisition.figure import acquisition_factors
from malaria_diffusion.questions.acquisition.measure import associations_kept, explained_by_factors
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters


def explain_acquisition(
    described_cells: dict[str, dict[str, pd.DataFrame]], comparison: ComparisonParameters
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What acquisition factors explain, which cannot be tested, and whether synthetic cells keep their associations."""
    real, floor, synthetic = (
        pd.concat([described_cells[side]["factors"], described_cells[side]["cells"]], axis=1)
        for side in ("real", "floor", "synthetic")
    )
    positive = comparison.positive_class
    explained = explained_by_factors(real, floor, synthetic, positive, comparison.confidence, comparison.seed)
    kept = associations_kept(real, floor, synthetic, positive, Bootstrap.of(comparison))
    return explained.table, explained.untestable, kept


def draw_acquisition(
    acquisition_explained: pd.DataFrame, acquisition_kept: pd.DataFrame, comparison: Comparison
) -> Figure:
    """Factors of acquisition."""
    return acquisition_factors(acquisition_explained, acquisition_kept, comparison.title("Acquisition"))


STEPS = (
    Step(
        explain_acquisition,
        ("described_cells", "params:validation.comparison"),
        ("acquisition_explained", "acquisition_untestable", "acquisition_kept"),
    ),
    Step(draw_acquisition, ("acquisition_explained", "acquisition_kept", "comparison"), "figure_acquisition"),
)
