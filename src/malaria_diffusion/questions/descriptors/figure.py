"""Figures of the descriptors: their distributions, and how they go together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure

SIDES = {"floor": (FLOOR, "other people (floor)"), "real": (REAL, "unseen"), "synthetic": (SYNTHETIC, "synthetic")}
BINS = 24
MOST_ROWS = 4  # classes that have a row of their own


def descriptor_distributions(
    described: dict[str, pd.DataFrame], cells: dict[str, pd.DataFrame], tests: pd.DataFrame, title: str
) -> Figure:
    """Distributions of each descriptor, a row a class if there are few, with the Kolmogorov-Smirnov statistics.

    Args:
        described: For "real", "floor" and "synthetic", `descriptors.describe`.
        cells: For each side one row a cell, with the column label.
        tests: `measure.distance_tests` of them.
        title: Of the figure.
    """
    names = list(tests["descriptor"].unique())
    classes = [group for group in tests["group"].unique() if group != "all"]
    if not 0 < len(classes) <= MOST_ROWS:
        classes = ["all"]
    figure = new_figure(1.75 * len(names), 1.9 * len(classes) + 0.7)
    axes = figure.subplots(len(classes), len(names), squeeze=False)
    usable = {side: ~described[side]["empty"].to_numpy(dtype=bool) for side in SIDES}
    for column, name in enumerate(names):
        everything = np.concatenate([described[side][name][usable[side]] for side in SIDES])
        # the few cells beyond lie in the last bin, lest they squeeze all others into one
        low, high = float(everything.min()), float(np.quantile(everything, 0.995))
        whole = bool((everything == np.round(everything)).all())
        edges = np.arange(low, high + 2) - 0.5 if whole else np.linspace(low, high if high > low else low + 1, BINS + 1)
        for place, group in zip(axes[:, column], classes, strict=True):
            for side, (colour, label) in SIDES.items():
                chosen = usable[side] & ((cells[side]["label"] == group) | (group == "all")).to_numpy()
                counts = np.histogram(described[side][name][chosen].clip(upper=high), edges)[0]
                place.stairs(counts / max(counts.sum(), 1), edges, color=colour, label=label)
            row = tests[(tests["descriptor"] == name) & (tests["group"] == group)].iloc[0]
            place.set_title(f"KS {row['ks']:.2f} (floor {row['floor_ks']:.2f})", fontsize=7)
            place.set_yticks([])
            place.tick_params(labelsize=6)
        axes[-1, column].set_xlabel(name.replace("_", " "), fontsize=8)
    for place, group in zip(axes[:, 0], classes, strict=True):
        place.set_ylabel(group, fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(SIDES), fontsize=7)
    figure.suptitle(title, fontsize=10)
    return figure


def association_matrices(correlations: pd.DataFrame, differences: pd.DataFrame, title: str) -> Figure:
    """Rank correlations between descriptors in unseen, other people's and synthetic cells of all classes, side by side.

    Args:
        correlations: Of `measure.associations`.
        differences: See there.
        title: Of the figure.
    """
    part = correlations[correlations["group"] == "all"]
    names = list(dict.fromkeys([*part["first"], *part["second"]]))
    row = differences[differences["group"] == "all"].iloc[0]
    figure = new_figure(9, 3.7)
    axes = figure.subplots(1, 3, sharey=True)
    for place, (side, label) in zip(
        axes, (("real", "unseen"), ("floor", "other people (floor)"), ("synthetic", "synthetic")), strict=True
    ):
        matrix = pd.DataFrame(np.eye(len(names)), names, names)
        of_side = part[part["side"] == side]
        for first, second, rho in zip(of_side["first"], of_side["second"], of_side["spearman"], strict=True):
            matrix.loc[first, second] = matrix.loc[second, first] = rho
        drawn = place.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        for down in range(len(names)):
            for across in range(len(names)):
                value = matrix.to_numpy()[down, across]
                colour = "white" if abs(value) > 0.6 else "black"
                place.text(across, down, f"{value:.2f}", ha="center", va="center", fontsize=5, color=colour)
        shown = [name.replace("_", " ") for name in names]
        place.set_xticks(range(len(names)), shown, rotation=60, ha="right", fontsize=7)
        place.set_yticks(range(len(names)), shown, fontsize=7)
        apart = {"floor": row["floor"], "synthetic": row["difference"]}.get(side)
        place.set_title(label if apart is None else f"{label}: {apart:.2f} from unseen", fontsize=8)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.set_label("Spearman's correlation", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    return figure
