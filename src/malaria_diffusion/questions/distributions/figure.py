"""Figure 6: how distributions compare."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure


def distributions(
    histograms: dict[str, dict[str, NDArray[np.int64]]], tests: pd.DataFrame, n: int, images: str
) -> Figure:
    """Figure 6: distributions above, effect sizes with intervals, floors and margins below.

    Args:
        histograms: By variable, the summed histograms of "real" (unseen), "synthetic" and "floor" (other real people).
        tests: `distribution_tests`.
        n: Cells on each side.
        images: What the real cells are.
    """
    figure = new_figure(2.3 * len(histograms), 5)
    axes = figure.subplots(2, len(histograms), squeeze=False, gridspec_kw={"height_ratios": [1, 0.8]})
    for place, (variable, sides) in zip(axes[0], histograms.items(), strict=True):
        edges = np.linspace(0, 1 if variable == "score" else 255, len(sides["real"]) + 1)
        for side, colour in (("floor", FLOOR), ("real", REAL), ("synthetic", SYNTHETIC)):
            counts = sides[side]
            label = {"floor": "other people", "real": "unseen people", "synthetic": "synthetic"}[side]
            place.stairs(counts / max(counts.sum(), 1), edges, color=colour, label=label)
        place.set_title("classifier score" if variable == "score" else f"{variable} level", fontsize=9)
        place.set_yticks([])
        place.tick_params(labelsize=7)
    axes[0, 0].set_ylabel("share", fontsize=8)
    for place, variable in zip(axes[1], histograms, strict=True):
        part = tests[tests["variable"] == variable]
        rows = np.arange(len(part))
        place.barh(rows, part["margin"], 0.7, color=FLOOR, alpha=0.25, label="within the margin")
        for prefix, offset, marker, colour, label in (
            ("floor_", 0.15, "D", FLOOR, "other people (floor)"),
            ("", -0.15, "o", SYNTHETIC, "synthetic"),
        ):
            value, low, high = (part[f"{prefix}{name}"] for name in ("v", "v_low", "v_high"))
            error = np.stack([value - low.clip(upper=value), high.clip(lower=value) - value])
            style = {"fmt": marker, "color": colour, "markersize": 4, "capsize": 2, "clip_on": False}
            place.errorbar(value, rows + offset, xerr=error, label=label, **style)
        place.set_yticks(rows, part["group"] if place is axes[1, 0] else [""] * len(part), fontsize=7)
        place.set_ylim(len(part) - 0.4, -0.6)
        place.set_xlim(left=0)
        place.tick_params(axis="x", labelsize=7)
        place.set_xlabel("Cramer's V", fontsize=8)
    for row in axes:
        handles, labels = row[-1].get_legend_handles_labels()
        row[-1].legend(handles, labels, fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"Figure 6. {n} synthetic cells against {n} {images}", fontsize=10)
    return figure
