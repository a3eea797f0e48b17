"""Where in a cell the hypotheses differ: each pixel's part of the log-odds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.questions.explanations.measure import choose
from malaria_diffusion.studies.generative.classifier import GenerativeClassifier


class Maps(NamedTuple):
    """Some cells and what in them speaks for a class.

    Attributes:
        cells: Which, N.
        parts: Each pixel's part of the log-odds, nats, (N, S, S).
        speaks_for: Name of the class that positive parts speak for, of each cell, (N,).
        log_odds: Of it and of the most probable other, (N,): the sum of the parts and the difference of the biases.
    """

    cells: Cells
    parts: NDArray[np.float64]
    speaks_for: NDArray[np.str_]
    log_odds: NDArray[np.float64]


def explain(
    model: GenerativeClassifier, cells: Cells, count: int, positive_class: str | None, rng: np.random.Generator
) -> Maps:
    """The maps of `count` cells of each class, of as many people as there are.

    They speak for the positive class, without one for the cell's own, against the most probable other.
    """
    names = np.array(cells.class_names)
    chosen = cells[choose(cells.labels, cells.people, count, rng)]
    pixels = chosen.pixels
    pairs = np.empty((len(chosen), 2), np.int64)
    pairs[:, 0] = chosen.classes if positive_class is None else cells.class_names.index(positive_class)
    rest = model.judge(pixels, chosen.places).probabilities
    rest[np.arange(len(chosen)), pairs[:, 0]] = -1
    pairs[:, 1] = rest.argmax(axis=1)
    parts = model.maps(pixels, chosen.places, pairs)
    bias = model.rule.stages[-1].bias[pairs]
    return Maps(chosen, parts, names[pairs[:, 0]], parts.sum((1, 2)) + bias[:, 0] - bias[:, 1])
