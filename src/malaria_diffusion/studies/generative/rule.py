"""From scores to probabilities: which noise to look at, and what each loss is worth, chosen on validation people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from malaria_diffusion.errors import UserError

FOLDS = 5  # of validation people
LEAST_CELLS = 10  # validation cells of each class
MOST_DRAWS = 1024  # of noise for a cell and timestep; a part of the key of a stream


class Level(NamedTuple):
    """How noisy a cell is made.

    Attributes:
        t: Timestep, 0 to T - 1.
        log_snr: Log signal-to-noise ratio there, nats.
    """

    t: int
    log_snr: float


class Question(NamedTuple):
    """At which noise a cell is looked at.

    Attributes:
        t: Timestep, 0 to T - 1.
        draw: Which draw of the noise there, 0 to `MOST_DRAWS` - 1.
    """

    t: int
    draw: int


class PairedLogit(NamedTuple):
    """Log-probabilities that are a constant plus weights * scores + bias (a conditional logit, McFadden 1974).

    It is fitted by logistic regression of each cell's own class against every other one (Bradley & Terry 1952): the
    predictors are the differences of the two classes' scores. Of two classes that is plain logistic regression.

    Attributes:
        weights: Of each score, the same for every class, (F,).
        bias: Of each class, (K,).
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def fit(cls, scores: NDArray[np.float64], classes: NDArray[np.int64]) -> Self:
        """Fit to scores (N, K, F) of cells of known `classes` (N,)."""
        number = scores.shape[1]
        row, other = np.nonzero(np.arange(number) != classes[:, None])
        own = classes[row]
        apart = scores[row, own] - scores[row, other]
        scale = np.sqrt(np.square(apart).mean(axis=0))
        scale[scale == 0] = 1
        pairs = np.concatenate([apart / scale, np.eye(number)[own] - np.eye(number)[other]], axis=1)
        model = LogisticRegression(fit_intercept=False, solver="newton-cholesky")
        model.fit(np.concatenate([pairs, -pairs]), np.repeat([1, 0], len(pairs)))
        features = scores.shape[2]
        return cls(model.coef_[0, :features] / scale, model.coef_[0, features:])

    def log_probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, K) of scores (N, K, F); -inf of a class whose scores are NaN."""
        logits = scores @ self.weights + self.bias
        found: NDArray[np.float64] = log_softmax(np.where(np.isnan(logits), -np.inf, logits), axis=1)
        return found


class Rule(NamedTuple):
    """How a cell is judged.

    Attributes:
        levels: Of noise, that may be looked at, L.
        plan: Places in `levels`, one look after the other; each takes the next draw of noise there.
        stages: What to make of the losses after each look, as many as `plan` has.
    """

    levels: list[Level]
    plan: list[int]
    stages: list[PairedLogit]

    @property
    def draws(self) -> list[int]:
        """Which draw of the noise each look of the plan takes."""
        return [self.plan[:look].count(level) for look, level in enumerate(self.plan)]


def check_validation_cells(classes: NDArray[np.int64], people: NDArray[np.str_], class_names: list[str]) -> None:
    """Make sure that there is enough to choose a rule by.

    Raises:
        UserError: fewer than `LEAST_CELLS` validation cells of a class, or of one person alone.
    """
    counts = np.bincount(classes, minlength=len(class_names))
    if counts.min() < LEAST_CELLS:
        raise UserError(
            f"{counts.min()} validation cells of class {class_names[counts.argmin()]!r}, expected {LEAST_CELLS} or "
            "more of each to choose and calibrate by: raise data_processing.split.val_fraction or "
            "generative.validation_cells"
        )
    if len(set(people)) < 2:
        raise UserError(
            f"all validation cells are of {str(people[0])!r}, expected two people or more: raise "
            "data_processing.split.val_fraction"
        )


def choose_rule(
    losses: NDArray[np.float64],
    classes: NDArray[np.int64],
    people: NDArray[np.str_],
    levels: list[Level],
    looks: int,
) -> Rule:
    """Look next where the cross-validated log-loss falls most, and stop where no further look makes it smaller.

    Args:
        losses: Of validation people's cells, (N, K, L, D): hypotheses, levels of noise, draws.
        classes: (N,).
        people: Whose each cell is, (N,): folds are of people.
        levels: Of noise, L.
        looks: At most so many.
    """
    plan: list[int] = []
    reached: list[float] = []
    for _ in range(min(looks, losses.shape[2] * losses.shape[3])):
        used = Counter(plan)
        tried = {
            level: held_out_loss(scores_of(losses, [*plan, level]), classes, people)
            for level in range(losses.shape[2])
            if used[level] < losses.shape[3]
        }
        best = min(tried, key=tried.__getitem__)
        plan.append(best)
        reached.append(tried[best])
    plan = plan[: int(np.argmin(reached)) + 1]
    return Rule(levels, plan, fit_stages(losses, classes, plan))


def fit_stages(losses: NDArray[np.float64], classes: NDArray[np.int64], plan: list[int]) -> list[PairedLogit]:
    """What to make of the losses (N, K, L, D) after each look of a plan."""
    return [PairedLogit.fit(scores_of(losses, plan[:look]), classes) for look in range(1, len(plan) + 1)]


def folds(people: NDArray[np.str_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to fit to and rows to judge, again and again: nobody is on both sides, everybody is judged once."""
    yield from GroupKFold(min(FOLDS, len(set(people)))).split(people, groups=people)


def scores_of(losses: NDArray[np.float64], plan: list[int]) -> NDArray[np.float64]:
    """Less the mean loss at each level that a plan looks at, in their order: (N, K, F) of losses (N, K, L, D)."""
    draws = Counter(plan)
    return -np.stack([losses[:, :, level, : draws[level]].mean(axis=2) for level in sorted(draws)], axis=2)


def held_out_loss(scores: NDArray[np.float64], classes: NDArray[np.int64], people: NDArray[np.str_]) -> float:
    """Mean log-loss, in nats, of people whom the weights were not fitted to; of equal classes."""
    total = 0.0
    for fitted, judged in folds(people):
        logit = PairedLogit.fit(scores[fitted], classes[fitted])
        total -= float(logit.log_probabilities(scores[judged])[np.arange(len(judged)), classes[judged]].sum())
    return total / len(classes)
