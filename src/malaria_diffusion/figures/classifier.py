"""What the classifier gets wrong, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import REAL, new_figure, show_image

COLUMNS = 8
NAMED = 5


def reliability_figure(tables: Mapping[str, pd.DataFrame], images: str) -> Figure:
    """Accuracy by confidence; the diagonal is a classifier that is right as often as it says.

    Args:
        tables: By name, see `classifier.metrics.reliability`.
        images: What the cells are.
    """
    figure = new_figure(4.6, 4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color="grey")
    for name, table in tables.items():
        axes.plot(table["confidence"], table["accuracy"], "-", linewidth=1, label=name)
        axes.scatter(table["confidence"], table["accuracy"], s=4 + 60 * table["cells"] / table["cells"].sum())
    axes.set_xlim(min(table["confidence"].min() for table in tables.values()) - 0.02, 1.02)
    axes.set_ylim(min(0.4, *(table["accuracy"].min() for table in tables.values())) - 0.02, 1.02)
    axes.set_xlabel("confidence of the classifier")
    axes.set_ylabel("share that is right (larger dots: more cells)")
    axes.legend(fontsize=7)
    axes.set_title(f"Reliability ({images})", fontsize=10)
    return figure


def people_figure(table: pd.DataFrame, images: str) -> Figure:
    """Accuracy of each person with its interval, the worst to the left and named.

    Args:
        table: See `classifier.metrics.accuracy_of_groups`, of people.
        images: What the cells are.
    """
    figure = new_figure(8, 3)
    axes = figure.subplots()
    place = np.arange(len(table))
    error = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    axes.errorbar(place, table["accuracy"], error, fmt=".", markersize=3, linewidth=0.6, color=REAL)
    worst = [f"{row.name}: {row.errors} of {row.cells} wrong" for row in table.head(NAMED).itertuples()]
    corner: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "bottom", "fontsize": 7}
    axes.text(0.98, 0.04, "\n".join(["the worst", *worst]), **corner)
    axes.set_xlabel(f"people, from the worst to the best of {len(table)}")
    axes.set_ylabel("accuracy")
    axes.set_title(f"Accuracy by person ({images})", fontsize=10)
    return figure


def mistakes_figure(cells: NDArray[np.uint8], mistakes: pd.DataFrame, images: str) -> Figure:
    """The most confident wrong answers.

    Args:
        cells: uint8, (N, 3, S, S).
        mistakes: Their rows: label, predicted, confidence, person.
        images: What the cells are.
    """
    rows = max(1, -(-len(cells) // COLUMNS))
    figure = new_figure(8, 0.5 + 1.35 * rows)
    for axes in figure.subplots(rows, COLUMNS, squeeze=False).flat:
        axes.axis("off")
    for axes, cell, row in zip(figure.axes, cells, mistakes.itertuples(), strict=False):
        axes.axis("on")
        show_image(axes, cell)
        axes.set_title(f"{row.label}, {row.person}\nsaid {row.predicted} {row.confidence:.3f}", fontsize=4.5)
    what = f"The {len(cells)} most confident mistakes" if len(cells) else "No mistakes"
    figure.suptitle(f"{what} ({images}); the label may be wrong as well", fontsize=10)
    return figure
