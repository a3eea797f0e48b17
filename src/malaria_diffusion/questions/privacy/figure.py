"""What the audit of novelty found: distances, the closest pairs, and the attack by the model's loss."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure, show_image
from malaria_diffusion.questions.privacy.membership import FALSE_POSITIVE_RATE, Membership
from malaria_diffusion.questions.privacy.novelty import PrivacyAudit
from malaria_diffusion.statistics.nearest import dihedral

UNITS = {"pixels": "grey levels"}


def nearest_distances(audit: PrivacyAudit) -> Figure:
    """For each space: distances to the nearest member and non-member, and relative distances with the threshold."""
    spaces = list(audit.closest["space"].unique())
    if not audit.summary["testable"]:
        return _message(audit.summary["reason"])
    figure = new_figure(9, 2.9 * len(spaces))
    rows = figure.subplots(len(spaces), 2, squeeze=False)
    for (left, right), space in zip(rows, spaces, strict=True):
        synthetic = audit.distances[audit.distances["space"] == space]
        real = audit.calibration.loc[audit.calibration["space"] == space, "relative_distance"]
        compared = audit.comparison[(audit.comparison["space"] == space) & (audit.comparison["group"] == "all")].iloc[0]
        copies = audit.copies[audit.copies["space"] == space].iloc[0]
        left.ecdf(synthetic["nearest_member"], color=SYNTHETIC, label="training cell (member)")
        left.ecdf(synthetic["nearest_non_member"], color=REAL, linestyle="--", label="held-out cell (non-member)")
        left.set_xlabel(f"distance to the nearest of {audit.summary['matched_cells']} ({UNITS.get(space, 'features')})")
        left.set_ylabel("share of synthetic cells")
        left.set_title(
            f"{space}: nearer to a member {compared['share']:.3f} [{compared['low']:.3f}, {compared['high']:.3f}]",
            fontsize=9,
        )
        left.legend(fontsize=7)
        low = min(real.min(), synthetic["relative_distance"].min())
        edges = np.linspace(low, max(1, low + 1e-3), 50)
        for values, colour, label in (
            (real, FLOOR, f"{len(real)} held-out cells"),
            (synthetic["relative_distance"], SYNTHETIC, f"{len(synthetic)} synthetic cells"),
        ):
            counts, _ = np.histogram(values, edges)
            right.stairs(counts / len(values), edges, color=colour, label=label)
        right.axvline(copies["threshold"], color="black", linestyle=":", label="threshold of a copy")
        right.set_xlabel("relative distance to a training cell")
        right.set_ylabel("share of cells")
        right.set_title(
            f"{space}: copies {copies['flagged']}, by chance {copies['expected_false_alarms']:.1f}",
            fontsize=9,
        )
        right.legend(fontsize=7, loc="upper left")
    return figure


def closest_pairs(synthetic: NDArray[np.uint8], cells: NDArray[np.uint8], closest: pd.DataFrame) -> Figure:
    """The synthetic cells closest to a training cell, turned as they fit best, above those cells.

    Args:
        synthetic: uint8, (N, 3, S, S).
        cells: uint8, (A, 3, S, S), in which a member's index is its row.
        closest: See `PrivacyAudit`.
    """
    spaces = list(closest["space"].unique())
    columns = int(closest["rank"].max())
    figure = new_figure(max(1.0 * columns, 4), 2.7 * len(spaces))
    rows = figure.subplots(2 * len(spaces), columns, squeeze=False)
    for place in rows.ravel():
        place.set_axis_off()
    for line, space in enumerate(spaces):
        pairs = closest[closest["space"] == space]
        for column, pair in enumerate(pairs.itertuples()):
            above, below = rows[2 * line, column], rows[2 * line + 1, column]
            above.set_axis_on()
            below.set_axis_on()
            turned = dihedral(synthetic[pair.synthetic])[pair.transform]
            show_image(above, turned, f"{space if column == 0 else ''}\n{pair.relative_distance:.2f}")
            above.title.set_color("#b2182b" if pair.copy else "black")
            show_image(below, cells[pair.member])
            below.set_xlabel(f"d = {pair.distance:.3g}", fontsize=7)
        rows[2 * line, 0].set_ylabel("synthetic", fontsize=7)
        rows[2 * line + 1, 0].set_ylabel("training", fontsize=7)
    return figure


def membership_roc(attack: Membership) -> Figure:
    """ROC curve of the attack by the denoising loss, and where 1 % of non-members are taken for members."""
    found = attack.summary
    if not found["testable"]:
        return _message(found["reason"])
    figure = new_figure(4.4, 4.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=FLOOR, linestyle=":", label="chance")
    axes.step(
        attack.roc["fpr"], attack.roc["tpr"], where="post", color=SYNTHETIC, label="denoising loss, all cells together"
    )
    axes.axvline(FALSE_POSITIVE_RATE, color="black", linewidth=0.5)
    axes.set_xlabel("non-members taken for members")
    axes.set_ylabel("members found")
    axes.set_title(
        f"AUC within people and classes {found['auc']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        + ("" if found["tpr"] is None else f"\nmembers found at 1 %: {found['tpr']:.3f}"),
        fontsize=9,
    )
    axes.legend(fontsize=7, loc="lower right")
    return figure


def _message(reason: str) -> Figure:
    figure = new_figure(7, 1.2)
    figure.text(0.5, 0.5, f"Not testable: {reason}", ha="center", va="center", fontsize=8, wrap=True)
    return figure
