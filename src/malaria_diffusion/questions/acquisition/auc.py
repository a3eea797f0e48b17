"""How well factors tell two sides of people apart whom the model has not seen, with intervals for new people.

The area under the ROC curve of cross-validation varies with who is judged and with whom the model was fitted to. An
interval that resamples people with their scores held is of the first alone: 0.6 to 0.9 of those at 0.95 hold. Here each
person is left out of the judged, and of those fitted to, and both are added.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, SplineTransformer

from malaria_diffusion.statistics.bootstrap import Interval
from malaria_diffusion.statistics.jackknife import (
    FEW_GROUPS,
    effective_number,
    half_width,
    left_out_variance,
    share_interval,
)

FOLDS = 5


class Groups(NamedTuple):
    """What is left out together.

    Attributes:
        of: The group of each cell, (N,), 0 to G - 1.
        sample: Which of the independent samples a group is of, (G,).
    """

    of: NDArray[np.intp]
    sample: NDArray[np.intp]

    @classmethod
    def make(cls, unit: NDArray[np.str_], sample: NDArray[np.intp]) -> Groups:
        """Units (N,) whole, at most `FEW_GROUPS` groups of each sample (N,)."""
        of = np.zeros(len(unit), dtype=np.intp)
        groups: list[np.intp] = []
        for one in np.unique(sample):
            owner = np.unique(unit[sample == one], return_inverse=True)[1] % FEW_GROUPS
            of[sample == one] = owner + len(groups)
            groups += [one] * (owner.max() + 1)
        return cls(of, np.array(groups, dtype=np.intp))


class Scores(NamedTuple):
    """Of cells by models that have not seen their people.

    Attributes:
        found: (N,).
        without: The same by models fitted without each group, (N, G).
        fold: Of the model, (N,).
    """

    found: NDArray[np.float64]
    without: NDArray[np.float64]
    fold: NDArray[np.intp]


def scores_of_others(values: NDArray[np.float64], truth: NDArray[np.bool_], groups: Groups, seed: int) -> Scores:
    """Fit to four fifths of the groups and score the last fifth, each fifth in turn.

    A logistic regression on cubic splines of the factors' ranks, both sides weighing the same. Without a group it is
    one Newton step from the model of all (Pregibon 1981, section 4), the ranks as they were.

    Args:
        values: Factors of each cell, (N, F).
        truth: Whether it is on the first side, (N,).
        groups: See above.
        seed: Of the folds.
    """
    found, fold = np.zeros(len(truth)), np.zeros(len(truth), dtype=np.intp)
    without = np.zeros((len(truth), len(groups.sample)))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(values, truth, groups.of)
    knots = np.linspace(0, 1, 5)[:, None].repeat(values.shape[1], axis=1)
    for number, (learn, judge) in enumerate(folds):
        basis = make_pipeline(
            QuantileTransformer(n_quantiles=min(100, len(learn)), subsample=None), SplineTransformer(knots=knots)
        )
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        model.fit(learned := basis.fit_transform(values[learn]), truth[learn])
        found[judge] = model.decision_function(judged := basis.transform(values[judge]))
        start = np.append(model.coef_[0], model.intercept_)
        each = _refitted(_with_one(learned), truth[learn], groups.of[learn], len(groups.sample), start)
        without[judge] = _with_one(judged) @ each
        fold[judge] = number
    return Scores(found, without, fold)


def auc_interval(
    scores: Scores, truth: NDArray[np.bool_], stratum: NDArray[np.generic], groups: Groups, confidence: float
) -> tuple[float, Interval]:
    """Share of pairs, one of each side, that the score orders rightly, ties counting half, and its interval.

    The interval is for new people, judged by a model of as many people as here: a jackknife of the judged with their
    scores held, and one of those fitted to. One of both at once would count twice what hangs on who judges whom, which
    is all there is where a factor tells nothing. Of those at 0.95, 0.94 to 1 hold where a factor tells nothing, 0.90 to
    0.98 where it tells something (benchmarks/coverage.py).

    Args:
        scores: See `scores_of_others`.
        truth: (N,).
        stratum: Pairs are of cells of one stratum (N,): of a fold, as scores of different models do not compare, or
            of a person.
        groups: See above.
        confidence: Of the interval.
    """
    number = len(groups.sample)
    right, pairs = np.zeros((2, number * number))
    fitted = np.zeros(number)
    for one in np.unique(stratum):
        up, down = (np.flatnonzero((stratum == one) & side) for side in (truth, ~truth))
        if not (len(up) and len(down)):
            continue
        above = (np.sign(scores.found[up][:, None] - scores.found[down]) + 1) / 2
        key = (groups.of[up][:, None] * number + groups.of[down]).ravel()
        right += np.bincount(key, above.ravel(), number * number)
        pairs += np.bincount(key, minlength=number * number)
        ranks = rankdata(scores.without[np.concatenate([up, down])], axis=0)[: len(up)]
        fitted += ranks.sum(axis=0) - len(up) * (len(up) + 1) / 2  # Mann and Whitney's U
    value = float(right.sum() / pairs.sum())
    taken, parts = _taking_part(pairs, number), []
    with np.errstate(invalid="ignore"):  # no pairs without this group
        judged = (right.sum() - _taking_part(right, number)) / (pairs.sum() - taken)
    for one in np.unique(groups.sample):
        own = groups.sample == one
        variance = left_out_variance(judged[own]) + left_out_variance(fitted[own] / pairs.sum())
        parts.append((variance, effective_number(taken[own]) - 1))
    people = min(degrees for _, degrees in parts) + 1
    return value, share_interval(value, half_width(parts, confidence), people, confidence)


def _taking_part(sums: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """What pairs of groups (G * G,) sum to for each of the groups, as either of the two."""
    square = sums.reshape(number, number)
    found: NDArray[np.float64] = square.sum(axis=0) + square.sum(axis=1) - square.diagonal()
    return found


def _with_one(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hstack([columns, np.ones((len(columns), 1))])


def _refitted(
    columns: NDArray[np.float64],
    truth: NDArray[np.bool_],
    group: NDArray[np.intp],
    number: int,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Coefficients (q, G) without each group, of columns (n, q) of which the last is the intercept's.

    `start` are those of all, by scikit-learn's LogisticRegression: C = 1, the intercept free, classes balanced.
    """
    width = columns.shape[1]
    free = np.diag(np.append(np.ones(width - 1), 0.0))
    probability = expit(columns @ start)
    slope, curvature = np.zeros((2, number, width)), np.zeros((2, number, width, width))
    cells = np.zeros((2, number))
    for side, chosen in enumerate((truth, ~truth)):
        for one in np.unique(group[chosen]):
            own = chosen & (group == one)
            x, p = columns[own], probability[own]
            slope[side, one] = x.T @ (p - truth[own])
            curvature[side, one] = x.T @ (x * (p * (1 - p))[:, None])
            cells[side, one] = len(x)
    slope, curvature, cells = (part.sum(axis=1, keepdims=True) - part for part in (slope, curvature, cells))
    weight = cells.sum(axis=0) / (2 * np.maximum(cells, 1))
    gradient = (weight[:, :, None] * slope).sum(axis=0) + free @ start
    hessian = (weight[:, :, None, None] * curvature).sum(axis=0) + free
    found: NDArray[np.float64] = (start - np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]).T
    return found
