"""Figures 3 to 5: what the classifier sees, how often it is right, and how it learned."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.figures.style import new_figure, show_image
from malaria_diffusion.statistics.comparison import MOST_CLASSES

SAMPLES = 20


def classified_samples(cells: NDArray[np.uint8], predictions: pd.DataFrame, images: str) -> Figure:
    """Figure 3: unseen cells with their true and predicted class.

    Args:
        cells: uint8, (N, 3, S, S).
        predictions: One row a cell: label, predicted, confidence.
        images: What the cells are.
    """
    rows = np.linspace(0, len(cells) - 1, min(SAMPLES, len(cells))).astype(int)
    figure = new_figure(9, 2.9)
    axes = figure.subplots(2, -(-len(rows) // 2), squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for place, row in zip(axes, rows, strict=False):
        seen = predictions.iloc[row]
        place.set_axis_on()
        show_image(place, cells[row])
        right = seen["label"] == seen["predicted"]
        place.set_title(
            f"{seen['predicted']}\n{seen['confidence']:.2f}", fontsize=7, color="#1b7837" if right else "#b2182b"
        )
        place.set_xlabel(f"is {seen['label']}", fontsize=7)
    figure.suptitle(f"Figure 3. {images.capitalize()}, as the classifier sees them", fontsize=10)
    return figure


def confusion_matrix(counts: pd.DataFrame, accuracy: dict[str, float], images: str) -> Figure:
    """Figure 4: true classes down, predicted ones across.

    Args:
        counts: Square table of counts.
        accuracy: value, low and high.
        images: What the cells are.
    """
    many = len(counts) > MOST_CLASSES
    side = 0 if len(counts) <= 2 else min(5.0, 0.5 * len(counts))
    figure = new_figure(4.6 + side, 4.2 + side)
    axes = figure.subplots()
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(0 if many else len(counts))  # a number in each of 10,000 fields is read by nobody
    for row in places:
        for column in places:
            share = shares.to_numpy()[row, column]
            text = f"{counts.to_numpy()[row, column]:,}\n{share:.1%}"
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10 if len(counts) < 5 else 6)
    few = len(counts) < 5
    size = 10 if few else min(8, 440 / len(counts))
    axes.set_xticks(range(len(counts)), counts.columns, rotation=0 if few else 90, fontsize=size)
    axes.set_yticks(range(len(counts)), counts.index, rotation=90 if few else 0, va="center", fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(
        f"Figure 4. {images.capitalize()}\n"
        f"accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]",
        fontsize=10,
    )
    return figure


def classifier_curves(history: pd.DataFrame, images: str) -> Figure:
    """Figure 5: losses and validation accuracy of the classifier by epoch."""
    figure = new_figure(8, 3.2)
    losses, accuracy = figure.subplots(1, 2)
    losses.plot(history["epoch"], history["train_loss"], "o-", markersize=3, label="training")
    losses.plot(history["epoch"], history["val_loss"], "o-", markersize=3, label="validation")
    losses.set_ylabel("cross-entropy (nats)")
    losses.legend(fontsize=8)
    accuracy.plot(history["epoch"], history["val_accuracy"], "o-", markersize=3, color="#1b7837")
    accuracy.set_ylabel("accuracy on the validation split")
    for axes in (losses, accuracy):
        axes.set_xlabel("epoch")
    figure.suptitle(f"Figure 5. Learning curves of the classifier ({images})", fontsize=10)
    return figure
