"""Figure: which share of cells violates which limit, and the worst of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure, show_image

SHOWN = 12


class Side(NamedTuple):
    """Cells of one side.

    Attributes:
        cells: uint8, (N, 3, S, S).
        masks: Their foreground, bool, (N, S, S).
        beyond: See `measure.violations`.
    """

    cells: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    beyond: pd.DataFrame


def constraint_figure(table: pd.DataFrame, real: Side, synthetic: Side, title: str) -> Figure:
    """Shares by violation, and cells with their outline: the worst synthetic, the worst real, typical synthetic ones.

    Args:
        table: See `measure.constraint_table`.
        real: Unseen people's cells.
        synthetic: As many, or not, synthetic ones.
        title: Of the figure.
    """
    figure = new_figure(9, 6.2)
    figure.suptitle(title, fontsize=10)
    if table.empty:
        figure.text(0.5, 0.5, "these images have no outline: not measured", ha="center")
        return figure
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.35], squeeze=False).ravel()
    _shares(above.subplots(), table[table["group"] == "all"])
    strips = {
        "synthetic,\nworst": (synthetic, worst(synthetic.beyond, SHOWN)),
        "unseen people's,\nworst": (real, worst(real.beyond, SHOWN)),
        "synthetic,\nno violation": (synthetic, within(synthetic.beyond, SHOWN)),
    }
    axes = below.subplots(len(strips), SHOWN, squeeze=False)
    for row, (name, (side, places)) in zip(axes, strips.items(), strict=True):
        for place in row:
            place.set_axis_off()
        row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=7)
        for axis, at in zip(row, places, strict=False):
            show_image(axis, side.cells[at])
            if not side.masks[at].all():
                axis.contour(side.masks[at], levels=[0.5], colors="#ffd92f", linewidths=0.5)
            found = side.beyond.columns[side.beyond.iloc[at].gt(0).to_numpy()]
            axis.set_title("\n".join(found[:2]), fontsize=5)
    return figure


def worst(beyond: pd.DataFrame, number: int) -> list[int]:
    """Places of cells that are farthest beyond a limit, each violation in turn, the most frequent first."""
    values = beyond.to_numpy()
    order = np.argsort(-(values > 0).sum(axis=0), kind="stable")
    queues = [[int(at) for at in np.argsort(-values[:, k], kind="stable") if values[at, k] > 0] for k in order]
    chosen: list[int] = []
    while any(queues) and len(chosen) < number:
        for queue in queues:
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < number:
                chosen.append(queue.pop(0))
    return chosen


def within(beyond: pd.DataFrame, number: int) -> list[int]:
    """Places of cells without a violation, from all over."""
    places = np.flatnonzero(~beyond.gt(0).any(axis=1).to_numpy())
    return [int(at) for at in places[np.linspace(0, len(places) - 1, min(number, len(places))).astype(int)]]


def _shares(axes: Axes, table: pd.DataFrame) -> None:
    places = np.arange(len(table))
    people = f"unseen people ({table['real_cells'].iloc[0]:,} cells of {table['people'].iloc[0]}; floor)"
    sides = (
        ("value", "", 0.14, SYNTHETIC, f"synthetic ({table['synthetic_cells'].iloc[0]:,} cells)"),
        ("floor", "floor_", -0.14, FLOOR, people),
    )
    for value, prefix, shift, colour, label in sides:
        ends = table[[f"{prefix}low", f"{prefix}high"]].to_numpy() * 100
        axes.hlines(places + shift, *ends.T, color=colour)
        axes.plot(100 * table[value], places + shift, "o", color=colour, markersize=4, label=label)
    axes.set_yticks(places, table["violation"], fontsize=7)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.axhline(0.5, color=REAL, linewidth=0.4)
    axes.set_xlim(-0.3, 1.05 * 100 * max(table["high"].iloc[0], table["floor_high"].iloc[0], 0.01))
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel("% of cells beyond the limit", fontsize=7)
    axes.legend(fontsize=7, loc="lower right")
