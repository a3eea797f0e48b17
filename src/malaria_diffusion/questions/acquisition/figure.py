"""The figure of conditions of acquisition: what they explain, and whether synthetic cells keep it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure
from malaria_diffusion.questions.acquisition.measure import ERROR, PEOPLE, POSITIVE, WITHIN_PERSON

WITHIN = "#6baed6"


def acquisition_factors(explained: pd.DataFrame, kept: pd.DataFrame, title: str) -> Figure:
    """Areas under the ROC curve of each factor by target, and its association with the positive class on each side.

    Args:
        explained: Table of `measure.explained_by_factors`.
        kept: `measure.associations_kept`.
        title: Of the figure.
    """
    factors = list(explained["factor"].unique())
    figure = new_figure(11, 3.6)
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.2))
    people, within = (explained[explained["scope"] == scope] for scope in (PEOPLE, WITHIN_PERSON))
    for panel, target in zip(panels, (POSITIVE, ERROR), strict=False):
        bars(panel, people[people["target"] == target], factors, "auc", Look(0.13, REAL, "all people"))
        bars(panel, within[within["target"] == target], factors, "auc", Look(-0.13, WITHIN, WITHIN_PERSON))
    panels[0].set_title(POSITIVE, fontsize=9)
    panels[1].set_title(ERROR, fontsize=9)
    for target, shift, colour, label in (
        ("real against synthetic", 0.13, SYNTHETIC, "synthetic"),
        ("real against real", -0.13, FLOOR, "other people (floor)"),
    ):
        bars(panels[2], people[people["target"] == target], factors, "auc", Look(shift, colour, label))
    panels[2].set_title("unseen cells against", fontsize=9)
    for panel in panels[:3]:
        mark_no_auc(panel)

    order = list(kept["factor"])
    for side, shift, colour, label in (
        ("real", 0.22, REAL, "unseen"),
        ("floor", 0, FLOOR, "other people (floor)"),
        ("synthetic", -0.22, SYNTHETIC, "synthetic"),
    ):
        part = kept[["factor", side, f"{side}_low", f"{side}_high"]].set_axis(
            ["factor", "delta", "low", "high"], axis=1
        )
        bars(panels[3], part, order, "delta", Look(shift, colour, label))
    verdicts = [f"{factor}\n({verdict})" for factor, verdict in zip(order, kept["verdict"], strict=True)]
    panels[3].set_yticks(range(len(order)), verdicts[::-1], fontsize=7)
    panels[3].axvline(0, color="black", linestyle=":", linewidth=1)
    panels[3].set_xlim(-1, 1)
    panels[3].set_xticks([-1, -0.5, 0, 0.5, 1])
    panels[3].set_xlabel("Cliff's delta, positive class against others", fontsize=7)
    panels[3].set_title(f"{POSITIVE}, each side", fontsize=9)
    for panel in panels:
        panel.tick_params(axis="x", labelsize=7)
        panel.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, handletextpad=0.2)
    for panel in panels[1:3]:
        panel.set_yticks(range(len(factors)), [])
    figure.suptitle(title, fontsize=10)
    return figure


class Look(NamedTuple):
    """How one side is drawn: above or below the others, in its colour, by its name."""

    shift: float
    colour: str
    label: str


def bars(axes: Axes, rows: pd.DataFrame, factors: list[str], value: str, look: Look) -> None:
    """A point and its interval for each factor, the first on top."""
    shift, colour, label = look
    places = np.array([len(factors) - 1 - factors.index(factor) for factor in rows["factor"]])
    error = np.stack([(rows[value] - rows["low"]).clip(lower=0), (rows["high"] - rows[value]).clip(lower=0)])
    axes.errorbar(
        rows[value], places + shift, xerr=error, fmt="o", markersize=3, color=colour, linewidth=1, label=label
    )
    axes.set_yticks(range(len(factors)), factors[::-1], fontsize=7)
    axes.set_ylim(-0.6, len(factors) - 0.4)


def mark_no_auc(axes: Axes) -> None:
    """Say where an area under the ROC curve tells nothing."""
    axes.axvline(0.5, color="black", linestyle=":", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_xlabel("AUC (dotted: tells nothing)", fontsize=7)
