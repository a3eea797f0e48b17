"""Figure: how often readers are right, of the kind and of the class."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure
from malaria_diffusion.studies.reader.answers import ALL
from malaria_diffusion.studies.reader.key import Key
from malaria_diffusion.studies.reader.score import ACCURACY, GUESSING, sentence

PANELS = {
    "real or synthetic?": {ACCURACY: "black"},
    "by kind": {"real called real": REAL, "synthetic called synthetic": SYNTHETIC},
    "which class?": {"class of real cells": REAL, "class of synthetic cells": SYNTHETIC},
}


def readers_figure(scores: pd.DataFrame, key: Key) -> Figure:
    """A row for all readers together and for each; a panel for the accuracy, its two halves, and the classes.

    Args:
        scores: See `score_readers`.
        key: Of the sheet.
    """
    whole = scores[scores["group"] == "all"]
    readers = [ALL, *(reader for reader in whole["reader"].unique() if reader != ALL)]
    panels = dict(list(PANELS.items())[: 3 if len(key.classes) > 1 else 2])
    figure = new_figure(3.3 * len(panels), 1.9 + 0.32 * len(readers))
    for axes, (title, measures) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        guessing = 1 / len(key.classes) if "class" in title else GUESSING
        axes.axvline(guessing, color=FLOOR, linewidth=0.8, linestyle=":", label="guessing")
        if ACCURACY in measures:
            axes.axvspan(GUESSING - key.margin, GUESSING + key.margin, color=FLOOR, alpha=0.2, label="margin")
        for place, (measure, colour) in enumerate(measures.items()):
            part = whole[whole["measure"] == measure].set_index("reader").loc[readers]
            rows = np.arange(len(readers)) + 0.24 * (place - (len(measures) - 1) / 2)
            axes.hlines(rows, part["low"], part["high"], color=colour)
            axes.plot(part["value"], rows, "o", color=colour, markersize=4, label=measure)
        axes.set_yticks(range(len(readers)), readers if axes.get_subplotspec().is_first_col() else [], fontsize=7)
        axes.set_ylim(len(readers) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(title, fontsize=8)
        axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    figure.suptitle(sentence(scores), fontsize=9)
    return figure
