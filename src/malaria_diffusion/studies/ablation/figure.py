"""Figure 9: what the number of diffusion steps does."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from malaria_diffusion.figures.style import FLOOR, REAL, SYNTHETIC, mosaic, new_figure, show_image

COLOURS = {"unscaled": REAL, "scaled": SYNTHETIC}
MARKERS = {"unscaled": "o", "scaled": "s"}


def ablation_figure(table: pd.DataFrame, claims: pd.DataFrame, samples: NDArray[np.uint8], images: str) -> Figure:
    """Quality, overfitting and costs by T above, generated images below.

    Args:
        table: `ablation_table`.
        claims: `ablation_claims`.
        samples: uint8, (rows of the table, K, 3, S, S).
        images: What was trained on, for the title.
    """
    steps = sorted(table["timesteps"].unique())
    figure = new_figure(11, 3.6 + 0.47 * len(steps))
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.3, 0.3 + 0.47 * len(steps)])
    quality, nearest, cost, sampling = above.subplots(1, 4)

    _curves(quality, table, "kernel_distance")
    floor = table[["floor_kernel_distance", "floor_kernel_distance_high"]].iloc[0]
    quality.axhline(floor.iloc[0], color=FLOOR, linestyle=":", label="floor: real cells")
    quality.axhspan(*floor, color=FLOOR, alpha=0.2, linewidth=0)
    # logarithmic down to the floor, and linear from there to zero and below, where an unbiased estimate may fall
    quality.set_yscale("symlog", linthresh=max(float(floor["floor_kernel_distance_high"]), 1e-6))
    quality.set_ylim(bottom=min(0.0, float(table["kernel_distance"].min())))
    quality.set_ylabel("kernel distance to\nvalidation cells (lower is better)", fontsize=8)
    _title(quality, claims, "more steps denoise better")

    _curves(nearest, table, "nearest_ratio")
    nearest.axhline(1, color=FLOOR, linestyle=":", label="new cells")
    nearest.set_ylabel("distance to the nearest training\ncell, new cells = 1", fontsize=8)
    _title(nearest, claims, "few steps look like overfitting")

    _curves(cost, table.assign(training_seconds=1000 * table["training_seconds"]), "training_seconds")
    cost.set_ylim(bottom=0, top=1.25 * cost.get_ylim()[1])
    cost.set_ylabel("training, ms for an image", fontsize=8)
    _title(cost, claims, "training takes longer")

    _curves(sampling, table, "sampling_seconds")
    sampling.set_yscale("log")
    sampling.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    sampling.yaxis.set_major_formatter("{x:g}")
    sampling.yaxis.set_minor_formatter(NullFormatter())
    sampling.set_ylabel("sampling, all T steps, s for an image", fontsize=8)
    sampling.set_title("the cost of an image", fontsize=8)
    for axes in (quality, nearest, cost, sampling):
        axes.set_xscale("log")
        axes.set_xticks(steps, [str(step) for step in steps], fontsize=7)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="y", which="both", labelsize=7)
        axes.set_xlabel("T", fontsize=8)
        axes.legend(fontsize=6.5, loc="upper left" if axes is sampling else "upper right")

    columns = below.subplots(len(steps), 2, squeeze=False)
    first = table[table["seed"] == table["seed"].min()]
    for column, betas in enumerate(COLOURS):
        for row, step in enumerate(steps):
            (at,) = first.index[(first["betas"] == betas) & (first["timesteps"] == step)]
            place = columns[row, column]
            show_image(place, mosaic(samples[at], samples.shape[1]), f"{betas} betas" if row == 0 else "")
            signal = first.loc[at, "alpha_bar_last"]
            place.set_ylabel(
                f"T = {step}\n$\\bar\\alpha_T$ = {signal:.2g}", fontsize=7, rotation=0, ha="right", va="center"
            )
    figure.suptitle(
        f"Figure 9. The number of diffusion steps T, under equal training on {images} (bars: two standard errors, of "
        "the images alone)",
        fontsize=9,
    )
    return figure


def _curves(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """One curve for each scaling through the means over seeds, with every training as a point."""
    for name, part in table.groupby("betas", sort=False):
        betas = str(name)
        # side by side, where both would hide each other
        shift = 0.97 if betas == "unscaled" else 1.03
        means = part.groupby("timesteps")[column].mean()
        axes.plot(means.index * shift, means, color=COLOURS[betas], linewidth=1, label=f"{betas} betas")
        error = 2 * part[f"{column}_error"] if f"{column}_error" in part else None
        axes.errorbar(
            part["timesteps"] * shift,
            part[column],
            error,
            fmt=MARKERS[betas],
            markersize=3.5,
            color=COLOURS[betas],
            elinewidth=1,
            capsize=2,
        )


def _title(axes: Axes, claims: pd.DataFrame, claim: str) -> None:
    """The claim as the title, with its verdicts."""
    found = claims[claims["claim"] == claim]
    verdicts = [
        verdict if betas == "both" else f"{betas}: {verdict}"
        for betas, verdict in zip(found["betas"], found["verdict"], strict=True)
    ]
    axes.set_title(f"“{claim}”\n{', '.join(verdicts)}", fontsize=8)
