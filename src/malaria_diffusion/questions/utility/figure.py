"""Learning curves: accuracy on unseen people by what a classifier was given."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure
from malaria_diffusion.questions.utility.config import Arm

COLOURS = {
    Arm.REAL: REAL,
    Arm.AUGMENTATION: "#7570b3",
    Arm.SHARING: SYNTHETIC,
    Arm.SYNTHETIC: "#1b7837",
    Arm.MATCHED: FLOOR,
}
LABELS = {
    Arm.REAL: "real cells",
    Arm.AUGMENTATION: "+ synthetic cells of the same people's DDPM",
    Arm.SHARING: "+ synthetic cells of all training people's DDPM",
    Arm.SYNTHETIC: "synthetic cells alone",
    Arm.MATCHED: "as many real cells",
}


def utility_figure(table: pd.DataFrame, images: str, unseen: str) -> Figure:
    """Accuracy (left) and gain by synthetic cells (right) by the share of training people, after the most steps.

    Args:
        table: See `questions.utility.measure.utility_table`.
        images: What the real cells are.
        unseen: Who tests.
    """
    table = table[table["steps"] == table["steps"].max()]
    figure = new_figure(9, 3.8)
    accuracy, gain = figure.subplots(1, 2)
    shares = sorted(share for share in table["share"].unique() if share > 0)
    places = {share: place for place, share in enumerate(shares)}
    for order, arm in enumerate(Arm):
        part = table[table["arm"] == arm]
        if not len(part):
            continue
        if arm in (Arm.SYNTHETIC, Arm.MATCHED):
            row = part.iloc[0]
            accuracy.axhline(row["accuracy"], color=COLOURS[arm], linestyle="--", label=LABELS[arm])
            accuracy.axhspan(row["low"], row["high"], color=COLOURS[arm], alpha=0.1, linewidth=0)
            continue
        x = part["share"].map(places) + (order - 1) * 0.06
        accuracy.plot(x, part["accuracy"], "o-", markersize=4, color=COLOURS[arm], label=LABELS[arm])
        accuracy.fill_between(x, part["low"], part["high"], color=COLOURS[arm], alpha=0.15, linewidth=0)
        if arm is not Arm.REAL:
            error = [part["gain"] - part["gain_low"], part["gain_high"] - part["gain"]]
            gain.errorbar(
                x, part["gain"], [side.clip(lower=0) for side in error], fmt="o", color=COLOURS[arm], capsize=3
            )
    gain.axhline(0, color=REAL, linewidth=1)
    accuracy.set_ylabel(f"accuracy on {unseen}")
    gain.set_ylabel("gain over real cells alone")
    for axes in (accuracy, gain):
        axes.set_xticks(range(len(shares)), [f"{share:.0%}" for share in shares])
        axes.set_xlabel("training people whose real cells are given")
    accuracy.legend(fontsize=7)
    figure.suptitle(
        f"Classifiers with and without synthetic cells ({images}, {table['steps'].iloc[0]} optimizer steps each)",
        fontsize=10,
    )
    return figure
