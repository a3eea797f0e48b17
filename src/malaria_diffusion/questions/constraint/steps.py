"""Are the synthetic images cells at all: whole outlines, of a size and shape that real cells have."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.observer import observer
from malaria_diffusion.questions.constraint.figure import Side, constraint_figure
from malaria_diffusion.questions.constraint.measure import ANY, constraint_table, limits_of, violations
from malaria_diffusion.questions.constraint.outline import outlines
from malaria_diffusion.questions.distributions.measure import foreground
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters

TYPICAL = 4000  # training people's cells, of which the limits are quantiles


def judge_outlines(
    comparison: Comparison, parameters: ComparisonParameters
) -> tuple[dict[str, float], dict[str, pd.DataFrame]]:
    """The limits that training people's cells set, and by how much compared cells are beyond them, by side."""
    background, threshold = comparison.study.background, parameters.foreground_threshold
    train = comparison.study.part("train")
    typical = train[np.sort(np.random.default_rng(parameters.seed).permutation(len(train))[:TYPICAL])]
    limits = limits_of(outlines(typical.pixels, background, threshold))
    sides = {side: comparison.sides[side] for side in ("real", "synthetic")}
    return limits, {
        side: violations(outlines(cells.pixels, background, threshold), limits) for side, cells in sides.items()
    }


def measure_constraint(
    outline_limits: dict[str, float],
    outline_violations: dict[str, pd.DataFrame],
    comparison: Comparison,
    parameters: ComparisonParameters,
) -> pd.DataFrame:
    """The share of synthetic cells that are no cell, beside that of unseen people's cells."""
    cells = {side: comparison.tables[side] for side in outline_violations}
    table = constraint_table(outline_violations, cells, outline_limits, parameters.confidence)
    for row in table[table["violation"] == ANY].to_dict("records"):
        observer().log_metrics({"constraint": {f"no cell of {row['group']}": row["value"]}})
    return table


def draw_constraint(
    constraint_metrics: pd.DataFrame,
    outline_violations: dict[str, pd.DataFrame],
    comparison: Comparison,
    parameters: ComparisonParameters,
) -> Figure:
    """The shares, and the worst cells beside typical ones."""
    sides = {}
    for side, beyond in outline_violations.items():
        pixels = comparison.sides[side].pixels
        sides[side] = Side(
            pixels, foreground(pixels, comparison.study.background, parameters.foreground_threshold), beyond
        )
    title = f"Constraint: what is no cell ({comparison.study.caption}, and synthetic)"
    return constraint_figure(constraint_metrics, sides["real"], sides["synthetic"], title)


STEPS = (
    Step(judge_outlines, ("comparison", "params:validation.comparison"), ("outline_limits", "outline_violations")),
    Step(
        measure_constraint,
        ("outline_limits", "outline_violations", "comparison", "params:validation.comparison"),
        "constraint_metrics",
    ),
    Step(
        draw_constraint,
        ("constraint_metrics", "outline_violations", "comparison", "params:validation.comparison"),
        "figure_constraint",
    ),
)
