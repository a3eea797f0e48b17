"""The classifier's explanations: cells beside what in them speaks for the positive class."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import new_figure, show_image
from malaria_diffusion.questions.explanations.measure import MASKER, ExplainedCells

COLOURS = "RdBu_r"
SHOWN = 8
HEAD = 0.7  # inches
# of the colours; few pixels beyond it are drawn as if they were there
QUANTILE = 0.995


def explained_cells(
    sides: dict[str, ExplainedCells], table: pd.DataFrame, positive_class: str | None, images: str, masks: str
) -> Figure:
    """Cells of each side and class, each beside its attributions, with the ratio of every row.

    Args:
        sides: "real" and "synthetic".
        table: See `questions.explanations.measure.results_table`.
        positive_class: What the log-odds are of; None: of each cell's own class.
        images: What the real cells are, such as "unseen real cells".
        masks: What the outlines are, such as "parasites as drawn".
    """
    explained = positive_class or "the cell's own class"
    groups = [(side, label) for side, shown in sides.items() for label in np.unique(shown.labels)]
    inside = np.concatenate([np.abs(shown.trained[shown.foreground]) for shown in sides.values()])
    limit = float(np.quantile(inside, QUANTILE) or inside.max()) if inside.any() else 1.0
    figure = new_figure(11, 0.95 * len(groups) + HEAD)
    figure.set_layout_engine("none")  # everything has its place, which to compute takes seconds where classes are many
    (head,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(HEAD, 0.95 * len(groups)))
    ((left, right),) = below.subfigures(1, 2, squeeze=False, width_ratios=(14, 1))
    parts = np.atleast_1d(left.subfigures(len(groups), 1))
    for part, (side, label) in zip(parts, groups, strict=True):
        shown = sides[side]
        rows = np.flatnonzero(shown.labels == label)[:SHOWN]
        places = part.add_gridspec(1, 2 * SHOWN, left=0.01, right=0.99, bottom=0.02, top=0.8, wspace=0.08)
        for column, row in enumerate(rows):
            show_image(part.add_subplot(places[2 * column]), shown.cells[row])
            _show_attribution(part.add_subplot(places[2 * column + 1]), shown.trained[row], shown.masks[row], limit)
        part.suptitle(f"{side}, {label}: {_ratios(table, side, label)}", fontsize=8, x=0.01, y=0.98, ha="left")
    colours = ScalarMappable(Normalize(-limit, limit), COLOURS)
    bar = right.colorbar(colours, cax=right.add_axes((0.1, 0.15, 0.2, 0.7)), extend="both")
    bar.set_label(f"log-odds of {explained} per pixel", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    head.suptitle(
        f"What speaks for {explained} in {images} and synthetic ones ({MASKER}; outlined: {masks})\n"
        "ratio: share of positive attribution inside the outline over its share of the cell",
        fontsize=9,
        y=0.9,
    )
    return figure


def _show_attribution(axes: Axes, attribution: NDArray[np.float32], mask: NDArray[np.bool_], limit: float) -> None:
    axes.imshow(attribution, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
    if mask.any():
        # padded, so that an outline at the border is closed
        side = np.arange(-1, len(mask) + 1)
        axes.contour(side, side, np.pad(mask, 1), [0.5], colors="black", linewidths=0.6)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, len(mask) - 0.5), ylim=(len(mask) - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set_linewidth(0.3)


def _ratios(table: pd.DataFrame, side: str, label: str) -> str:
    found = table[(table["side"] == side) & (table["label"] == label)].set_index("network").to_dict("index")
    texts = [
        f"{words} {found[network]['ratio']:.1f} [{found[network]['low']:.1f}, {found[network]['high']:.1f}]"
        for network, words in (("trained", "ratio"), ("random", "random weights"))
        if network in found
    ]
    return ", ".join(texts) or "no ratio, as no cell has both an outline and positive attribution"
