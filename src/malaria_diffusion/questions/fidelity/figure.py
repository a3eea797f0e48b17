"""Figure: distances and scores of synthetic cells beside their floors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.figures.style import FLOOR, SYNTHETIC, new_figure


def fidelity(table: pd.DataFrame, space: str, images: str) -> Figure:
    """One panel a metric: synthetic cells and other real people's (floor) against unseen people's, with intervals.

    Args:
        table: See `questions.fidelity.measure.fidelity_table`.
        space: Name of the feature space.
        images: What the real cells are.
    """
    metrics = list(table["metric"].unique())
    figure = new_figure(9, 4.8)
    panels = figure.subplots(2, -(-len(metrics) // 2), squeeze=False).ravel()
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    for axes, metric in zip(panels, metrics, strict=False):
        part = table[table["metric"] == metric]
        places = np.arange(len(part))
        sides = (("value", "", 0.12, SYNTHETIC, "synthetic"), ("floor", "floor_", -0.12, FLOOR, "others (floor)"))
        for value, prefix, shift, colour, label in sides:
            axes.hlines(places + shift, part[f"{prefix}low"], part[f"{prefix}high"], color=colour)
            axes.plot(part[value], places + shift, "o", color=colour, markersize=4, label=label)
        axes.set_yticks(places, part["group"], fontsize=7)
        axes.set_ylim(len(part) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(f"{metric}\n({part['better'].iloc[0]} is better)", fontsize=8)
        if metric == "kernel distance":
            axes.axvline(0, color="black", linewidth=0.5, linestyle=":")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=2)
    figure.suptitle(f"Fidelity and diversity against {images}\nfeatures: {space}", fontsize=9)
    return figure
