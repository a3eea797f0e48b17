"""Figures 1, 2, 7 and 8, and sheets of generated cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, mosaic, new_figure, show_image, shown_classes

SHEET_COLUMNS = 16
SHEET_ROWS = 4
VARIANCES = {"beta": r"$\beta_t$", "beta_tilde": r"$\tilde\beta_t$"}


def process(
    forward: dict[int, NDArray[np.uint8]], reverse: dict[int, NDArray[np.uint8]], label: str, images: str
) -> Figure:
    """Figure 1: the forward process of one cell above, the reverse process below.

    Args:
        forward: Image (3, S, S) by steps taken.
        reverse: Image (3, S, S) by network evaluations made.
        label: Class of both.
        images: What the training images are, for the title.
    """
    columns = max(len(forward), len(reverse))
    figure = new_figure(1.1 * columns, 3)
    axes = figure.subplots(2, columns)
    for row, states, unit, name in ((axes[0], forward, "t", "forward"), (axes[1], reverse, "evaluation", "reverse")):
        for place, (step, image) in zip(row, states.items(), strict=False):
            show_image(place, image, f"{unit} = {step}")
        for place in row[len(states) :]:
            place.set_axis_off()
        row[0].set_ylabel(name, fontsize=9)
    figure.suptitle(
        f"Figure 1. A cell of class {label} turned into noise (eq. 5), and noise into a synthetic one ({images})",
        fontsize=9,
    )
    return figure


def sheet(cells: NDArray[np.uint8], labels: pd.Series, images: str) -> Figure:
    """Generated cells, class by class; at most 64 a class, 16 where there are many classes."""
    classes, some = shown_classes(sorted(labels.unique()))
    most = SHEET_COLUMNS * max(1, 2 * SHEET_ROWS // max(2, len(classes)))
    rows = -(-min(labels.value_counts().max(), most) // SHEET_COLUMNS)
    figure = new_figure(9, 0.4 + len(classes) * (0.3 + 0.58 * rows))
    for axes, label in zip(figure.subplots(len(classes), 1, squeeze=False)[:, 0], classes, strict=True):
        chosen = np.flatnonzero(labels == label)[:most]
        show_image(axes, mosaic(cells[chosen], SHEET_COLUMNS), f"synthetic, {label}")
    figure.suptitle(f"Synthetic cells of a model trained on {images}{some}", fontsize=9)
    return figure


def beside(
    real: NDArray[np.uint8],
    real_labels: pd.Series,
    synthetic: NDArray[np.uint8],
    synthetic_labels: pd.Series,
    images: str,
) -> Figure:
    """Figure 2: for each class, unseen cells left and synthetic cells right.

    Args:
        real: uint8, (N, 3, S, S).
        real_labels: Their classes.
        synthetic: uint8, (M, 3, S, S).
        synthetic_labels: Their classes.
        images: What the left side is, e.g. "phantom cells of unseen people".
    """
    classes, some = shown_classes(sorted(real_labels.unique()))
    lines = max(1, 16 // max(2, len(classes)))  # 8 images each
    figure = new_figure(9, 0.5 + len(classes) * (0.3 + 0.52 * lines))
    axes = figure.subplots(len(classes), 2, squeeze=False)
    for row, label in zip(axes, classes, strict=True):
        # evenly spaced, as the cells of one person stand together
        rows = np.flatnonzero(real_labels == label)
        rows = rows[np.linspace(0, len(rows) - 1, min(8 * lines, len(rows))).astype(int)]
        show_image(row[0], mosaic(real[rows], 8), f"{images}: {label}")
        chosen = np.flatnonzero(synthetic_labels == label)[: 8 * lines]
        if len(chosen):
            show_image(row[1], mosaic(synthetic[chosen], 8), f"synthetic: {label}")
        else:
            row[1].set_axis_off()
            row[1].set_title(f"synthetic: {label} (none asked for)", fontsize=8)
    figure.suptitle(f"Figure 2. Synthetic cells beside the cells they should resemble{some}", fontsize=10)
    return figure


def loss_curve(history: pd.DataFrame, images: str) -> Figure:
    """Figure 7: losses of the DDPM, the kernel distance that chooses its weights, and recall, over images seen.

    The losses are of different timesteps where training draws some more often (`log_snr_deviation`), so the space
    between the curves is not overfitting.
    """
    figure = new_figure(6, 4.6)
    losses, distances = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    losses.plot(
        history["images_seen"], history["loss"], linewidth=1, label="training (as drawn)", color=SYNTHETIC, alpha=0.6
    )
    at_ends = history.dropna(subset="val_loss")
    losses.plot(
        at_ends["images_seen"],
        at_ends["val_loss"],
        "o-",
        markersize=3,
        label="validation split (averaged weights, all timesteps alike)",
    )
    losses.set_ylabel("mean squared error")
    losses.legend(fontsize=8)
    looks = history.dropna(subset="kernel_distance")
    distances.plot(looks["images_seen"], looks["kernel_distance"], "o-", markersize=3, color=SYNTHETIC)
    if len(looks):  # without validation cells there are none
        best = looks.iloc[int(looks["kernel_distance"].to_numpy().argmin())]
        distances.plot(best["images_seen"], best["kernel_distance"], "o", color=REAL, label="exported")
        distances.legend(fontsize=8)
    if "recall" in looks and looks["recall"].notna().any():  # a history of an earlier version has none
        recalls = distances.twinx()
        recalls.plot(looks["images_seen"], looks["recall"], "s--", markersize=3, color=FLOOR)
        recalls.set_ylabel("recall", color=FLOOR)
        recalls.set_ylim(0, 1)
    losses.set_yscale("log")
    distances.set_yscale("log" if (looks["kernel_distance"] > 0).any() else "linear")
    distances.set_ylabel("kernel distance")
    distances.set_xlabel("images seen")
    losses.set_title(f"Figure 7. Training of the DDPM ({images})", fontsize=10)
    return figure


def bound(measured: dict[str, Any], images: str) -> Figure:
    """Figure 8: the variational bound, step by step and summed.

    Args:
        measured: See the node `measure_bound`.
        images: What the cells are, e.g. "phantom cells of unseen people".
    """
    figure = new_figure(9, 3.9)
    by_step, summed = figure.subplots(1, 2, width_ratios=[3, 2])
    colours = dict(zip(measured["variances"], (REAL, SYNTHETIC), strict=True))
    for variance, terms in measured["variances"].items():
        by_step.plot(measured["steps"], terms["curve"], "o-", markersize=2.5, linewidth=1, color=colours[variance])
        by_step.plot([], [], color=colours[variance], label=VARIANCES[variance])
    by_step.set_xscale("log")
    by_step.set_yscale("log")
    by_step.set_xlabel("$t$")
    by_step.set_ylabel("$L_t$, bits/dim for one step")
    by_step.legend(fontsize=8, title="reverse variance", title_fontsize=8)
    by_step.set_title(f"where the bits are spent, $t$ = 1 to {measured['schedule']['timesteps'] - 1}", fontsize=9)

    places = np.arange(len(measured["variances"]))
    base = np.zeros(len(places))
    for name, label, colour in (("reconstruction", "$L_0$", "#fdc086"), ("middle", r"$\sum L_t$", "#a6cee3")):
        heights = np.array([terms[name] for terms in measured["variances"].values()])
        bars = summed.bar(places, heights, 0.55, bottom=base, color=colour, label=label)
        summed.bar_label(bars, [f"{height:.2f}" for height in heights], label_type="center", fontsize=8)
        base += heights
    prior = f"$L_T$ = {measured['prior']:.2g}"
    summed.bar(places, measured["prior"], 0.55, bottom=base, color="#bdbdbd", label=prior)
    base += measured["prior"]
    for place, terms in zip(places, measured["variances"].values(), strict=True):
        text = f"{terms['total']:.2f} ± {terms['standard_error']:.2f}"
        summed.text(place, base[place], text, ha="center", va="bottom", fontsize=9)
    summed.axhline(8, color=FLOOR, linestyle=":", linewidth=1, label="without a model: 8")
    summed.set_xticks(places, [VARIANCES[variance] for variance in measured["variances"]])
    summed.set_ylim(0, 1.3 * max(8, base.max()))
    summed.set_ylabel("bits/dim")
    summed.legend(fontsize=8, loc="upper left", ncols=2)
    summed.set_title("their sum (± standard error over people)", fontsize=9)
    ends = measured["schedule"]
    figure.suptitle(
        f"Figure 8. Variational bound of {measured['images']} {images}: bits that the model needs at most for "
        f"each of a cell's 8-bit values\n$T$ = {ends['timesteps']}, $\\beta_1$ = {ends['beta_first']:.2g}, "
        f"$\\beta_T$ = {ends['beta_last']:.2g}, signal left $\\bar\\alpha_T$ = {ends['alpha_bar_last']:.2g}, "
        f"log-SNR from {ends['log_snr_first']:.1f} to {ends['log_snr_last']:.1f}",
        fontsize=9,
    )
    return figure
