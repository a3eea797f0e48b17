"""Figures of the generative classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter

from malaria_diffusion.figures.style import new_figure, show_image, shown_classes
from malaria_diffusion.studies.generative.anomalies import LIKELIHOOD, MAHALANOBIS, TWO_SIDED, UNTOUCHED, Planted
from malaria_diffusion.studies.generative.maps import Maps
from malaria_diffusion.studies.generative.panel import FITTED, JUDGES, MEAN, MODEL, RECALIBRATED, YOLO
from malaria_diffusion.studies.generative.shift import BLUR, HUE, SATURATION

COLOURS = {MODEL: "#d95f02", YOLO: "#1f77b4", RECALIBRATED: "#8fbbda", MEAN: "#7f7f7f", FITTED: "#333333"}
SCORES = {LIKELIHOOD: "#bbbbbb", TWO_SIDED: "#7f7f7f", MAHALANOBIS: "#d95f02"}
AXES = {HUE: "turn of the hue", SATURATION: "factor of the saturation", BLUR: "blur, thousandths of the side"}
SMOOTHED = 1 / 64  # of the side: maps are noisy pixel by pixel
QUANTILE = 0.995


def judges_figure(table: pd.DataFrame, predictions: pd.DataFrame, rule: dict[str, Any], images: str) -> Figure:
    """Accuracy and calibration of every judge, where the model looks, and what a cell costs.

    Args:
        table: See `panel.judges_table`.
        predictions: See `panel.judged_table`.
        rule: See `panel.rule_summary`.
        images: What the cells are.
    """
    figure = new_figure(11, 5.4)
    grid = figure.subplots(2, 2)
    _show_metric(grid[0, 0], table, "accuracy")
    _show_metric(grid[0, 1], table, "ece", "expected calibration error, less its bias")
    looks, evaluations = grid[1]
    counts = pd.Series(rule["plan"]).value_counts()
    place = np.arange(len(rule["timesteps"]))
    looks.bar(place, [int(counts.get(t, 0)) for t in rule["timesteps"]], color=COLOURS[MODEL])
    looks.set_xticks(place, [f"{level:.1f}" for level in rule["log_snrs"]], fontsize=8)
    looks.set(xlabel="log SNR of the noisy cell (left: little noise)", ylabel="looks in the plan")
    looks.yaxis.set_major_locator(MaxNLocator(integer=True))
    spent = predictions.loc[predictions["classifier"] == MODEL, "evaluations"]
    evaluations.hist(spent, bins=np.arange(spent.max() + 2) - 0.5, color=COLOURS[MODEL])
    evaluations.set(xlabel=f"network evaluations of a cell (mean {spent.mean():.1f})", ylabel="cells")
    figure.suptitle(f"The diffusion model as a classifier beside YOLOv8 ({len(spent)} {images})", fontsize=10)
    return figure


def maps_figure(maps: Maps, images: str) -> Figure:
    """Cells of each class, each beside where the hypotheses differ."""
    classes, others = shown_classes(sorted(set(maps.cells.labels)))
    columns = max(int((maps.cells.labels == label).sum()) for label in classes)
    smooth = np.stack([gaussian_filter(part, SMOOTHED * maps.cells.size) for part in maps.parts])
    limit = float(np.quantile(np.abs(smooth), QUANTILE)) or 1.0
    figure = new_figure(max(6, 1.15 * 2 * columns), 1.35 * len(classes) + 0.4)
    grid = figure.subplots(len(classes), 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    pixels = maps.cells.pixels
    for line, label in zip(grid, classes, strict=True):
        for place, row in enumerate(np.flatnonzero(maps.cells.labels == label)):
            cell, beside = line[2 * place], line[2 * place + 1]
            for axes in (cell, beside):
                axes.axis("on")
            show_image(cell, pixels[row], label)
            beside.imshow(smooth[row], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            beside.set(xticks=[], yticks=[])
            beside.set_title(f"log-odds {maps.log_odds[row]:+.1f}", fontsize=8)
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), "RdBu_r"), ax=grid, extend="both", shrink=0.8)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("nats a pixel", fontsize=8)
    wanted = set(maps.speaks_for)
    speaks = wanted.pop() if len(wanted) == 1 else "the cell's own class"
    title = f"Where it is denoised better as {speaks} (red) or as another class (blue): {images}{others}"
    figure.suptitle(title, fontsize=10)
    return figure


def anomalies_figure(table: pd.DataFrame, kinds: dict[str, Planted], images: str) -> Figure:
    """A cell of each kind, and how well each score tells the kind from untouched cells."""
    planted = [kind for kind in kinds if kind != UNTOUCHED]
    figure = new_figure(max(7, 1.5 * len(planted) + 1), 5)
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.1, 3))
    for axes, kind in zip(above.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        show_image(axes, kinds[kind].pixels[0], kind)
    axes = below.subplots()
    for number, (score, colour) in enumerate(SCORES.items()):
        found = table[table["score"] == score].set_index("kind").loc[planted]
        reach = [found["auc"] - found["low"], found["high"] - found["auc"]]
        place = np.arange(len(planted)) + 0.25 * (number - 1)
        axes.bar(place, found["auc"], 0.22, color=colour, label=score)
        axes.errorbar(place, found["auc"], reach, fmt="none", ecolor="black", linewidth=0.8)
    axes.axhline(0.5, linestyle=":", color="grey")
    axes.set_xticks(np.arange(len(planted)), planted, fontsize=8)
    axes.set(ylabel="AUC against untouched cells", ylim=(0, 1.15))
    axes.legend(fontsize=7, loc="upper left", ncols=len(SCORES))
    figure.suptitle(f"Cells unlike any in training, found by how they are denoised ({images})", fontsize=10)
    return figure


def shift_figure(table: pd.DataFrame, images: str) -> Figure:
    """Accuracy of every judge as stain and focus change."""
    changes = list(AXES)
    figure = new_figure(11, 3.4)
    for axes, change in zip(figure.subplots(1, len(changes), sharey=True), changes, strict=True):
        for judge in JUDGES:
            if judge != RECALIBRATED:  # says what YOLOv8 says, almost
                _show_curve(axes, table[(table["change"] == change) & (table["classifier"] == judge)], judge)
        axes.set_xlabel(AXES[change])
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(fontsize=7, loc="lower left")
    figure.suptitle(f"Another stain, another focus ({int(table['cells'].iloc[0])} {images})", fontsize=10)
    return figure


def _show_curve(axes: Axes, found: pd.DataFrame, judge: str) -> None:
    reach = [found["accuracy"] - found["low"], found["high"] - found["accuracy"]]
    style: dict[str, Any] = {"color": COLOURS[judge], "marker": ".", "linewidth": 1, "elinewidth": 0.5}
    axes.errorbar(found["amount"], found["accuracy"], reach, label=judge, **style)


def _show_metric(axes: Axes, table: pd.DataFrame, metric: str, words: str = "") -> None:
    found = table[table["metric"] == metric].set_index("classifier").loc[JUDGES[::-1]]
    reach = [found["value"] - found["low"], found["high"] - found["value"]]
    for place, (judge, value) in enumerate(found["value"].items()):
        axes.errorbar(value, place, xerr=[[part.iloc[place]] for part in reach], fmt="o", color=COLOURS[str(judge)])
    axes.set_yticks(np.arange(len(found)), found.index, fontsize=8)
    axes.set_xlabel(words or metric)
