"""The figure of what the classifier gets wrong: whose cells, which kinds of errors, and what goes with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, new_figure
from malaria_diffusion.questions.acquisition.figure import WITHIN, Look, bars, mark_no_auc
from malaria_diffusion.questions.acquisition.measure import PEOPLE, WITHIN_PERSON

DRAWS = 200
MOST_KINDS = 6


def errors_figure(
    predictions: pd.DataFrame, disputed: pd.DataFrame, explained: pd.DataFrame, images: str, seed: int
) -> Figure:
    """Errors by person, by kind and by factor.

    Args:
        predictions: One row a cell: row, person, label, predicted, by classifiers that have not seen the person.
        disputed: Those of them whose label is disputed: row.
        explained: Table of `measure.explained_errors`; factors without an auc are left out.
        images: What the cells are.
        seed: Of the draws of what chance would do.
    """
    figure = new_figure(10, 3.2)
    concentration, kinds, factors = figure.subplots(1, 3, width_ratios=(1, 1.1, 1.1))
    wrong = predictions["label"] != predictions["predicted"]
    _draw_concentration(concentration, predictions["person"], wrong, seed)
    _draw_kinds(kinds, predictions[wrong], set(disputed["row"]))
    explained = explained.dropna(subset="auc")
    order = list(explained["factor"].unique())
    for scope, shift, colour in ((PEOPLE, 0.13, REAL), (WITHIN_PERSON, -0.13, WITHIN)):
        bars(factors, explained[explained["scope"] == scope], order, "auc", Look(shift, colour, scope))
    mark_no_auc(factors)
    factors.set_title("what tells errors from other cells", fontsize=9)
    factors.legend(fontsize=6, loc="lower left")
    for axes in (concentration, kinds, factors):
        axes.tick_params(labelsize=7)
    figure.suptitle(f"{int(wrong.sum()):,} errors among {len(predictions):,} cells ({images})", fontsize=10)
    return figure


def _draw_concentration(axes: Axes, person: pd.Series, wrong: pd.Series, seed: int) -> None:
    """The share of errors that the people with the most make up, beside people who all err at the same rate."""
    cells = person.groupby(person).size().to_numpy()
    found = wrong.groupby(person).sum().to_numpy()
    rng = np.random.default_rng(seed)
    chance = rng.multinomial(int(found.sum()), cells / cells.sum(), size=DRAWS)
    share = np.arange(len(cells) + 1) / len(cells)
    curves = [np.append(0, np.sort(each)[::-1].cumsum() / max(1, each.sum())) for each in (found, *chance)]
    axes.plot(share, curves[0], color=REAL, label="found")
    axes.plot(share, np.mean(curves[1:], axis=0), color=FLOOR, linestyle="--", label="all people alike")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("share of people, most errors first", fontsize=7)
    axes.set_ylabel("share of errors", fontsize=7)
    axes.set_title("whose cells", fontsize=9)
    axes.legend(fontsize=6, loc="lower right")


def _draw_kinds(axes: Axes, errors: pd.DataFrame, disputed: set[int]) -> None:
    """Errors by label and answer, the commonest first, those whose label is disputed apart."""
    kind = errors["label"] + "\nsaid " + errors["predicted"]
    counts = pd.crosstab(kind, errors["row"].isin(disputed)).reindex(columns=[False, True], fill_value=0)
    title = "which kind" if len(counts) <= MOST_KINDS else f"the {MOST_KINDS} commonest of {len(counts)} kinds"
    counts = counts.loc[counts.sum(axis=1).sort_values(kind="stable").index[-MOST_KINDS:]]
    axes.barh(counts.index, counts[True], color=SYNTHETIC, label="label disputed")
    axes.barh(counts.index, counts[False], left=counts[True], color=REAL, label="other")
    for place, (both, less) in enumerate(zip(counts.sum(axis=1), counts[True], strict=True)):
        axes.text(both, place, f" {both} ({less} disputed)", fontsize=6, va="center")
    axes.set_xlim(0, 1.6 * max([1, *counts.sum(axis=1)]))
    axes.set_xlabel("cells", fontsize=7)
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=6, loc="lower right")
