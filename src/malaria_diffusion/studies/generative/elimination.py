"""Successive elimination: a class is asked about until it is out of the question.

As the racing algorithms for bandits (Even-Dar et al. 2006), but a class leaves when its calibrated probability is small
and not by a bound that holds for any distribution, which would need hundreds of looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.studies.generative.rule import Rule

# of cells (M,), a look of the plan, and hypotheses (M, K) that are asked about: the losses (M, K), NaN where not asked
Ask = Callable[[NDArray[np.int64], int, NDArray[np.bool_]], NDArray[np.float64]]


class Judgement(NamedTuple):
    """What was found of some cells.

    Attributes:
        probabilities: (N, K), each row sums to 1.
        evaluations: Of the network, of each cell, (N,).
    """

    probabilities: NDArray[np.float64]
    evaluations: NDArray[np.int64]


def eliminate(ask: Ask, rule: Rule, cells: int, classes: int, give_up: float) -> Judgement:
    """Judge cells look by look; a class whose probability falls below `give_up` keeps it and costs no more.

    Args:
        ask: Gives the losses.
        rule: What to look at, and what it is worth.
        cells: N.
        classes: K.
        give_up: 0: every cell is looked at as often as the plan says.
    """
    levels = sorted(set(rule.plan))
    alive = np.ones((cells, classes), bool)
    sums = np.zeros((cells, classes, len(levels)))
    probabilities = np.full((cells, classes), 1 / classes)
    evaluations = np.zeros(cells, np.int64)
    seen: Counter[int] = Counter()
    for look, level in enumerate(tqdm(rule.plan, desc="generative classifier", unit="look", leave=False, delay=2)):
        seen[level] += 1
        open_cells = np.flatnonzero(alive.sum(axis=1) > 1)
        if not len(open_cells):
            break
        asked = alive[open_cells]
        sums[open_cells, :, levels.index(level)] += ask(open_cells, look, asked)
        evaluations[open_cells] += asked.sum(axis=1)
        known = [place for place, each in enumerate(levels) if seen[each]]
        means = sums[open_cells][:, :, known] / [seen[levels[place]] for place in known]
        settled = np.where(asked, 0, probabilities[open_cells]).sum(axis=1, keepdims=True)
        now = np.exp(rule.stages[look].log_probabilities(-means)) * (1 - settled)
        probabilities[open_cells] = np.where(asked, now, probabilities[open_cells])
        best = now == now.max(axis=1, keepdims=True)
        alive[open_cells] = asked & ((now >= give_up) | best)
    return Judgement(probabilities, evaluations)
