"""Three claims about the number of diffusion steps, each judged by one rule on the study's table.

Of each claim the study measures an effect: how much better, longer or more overfitted one end of the range of T is
than the other. It has a 95 % interval and a margin, the smallest effect worth the claim. The rule:

- confirmed: the interval lies above the margin, and over all trainings the measure rises or falls with T as claimed
  (Kendall's tau, one-sided p <= 0.05); for overfitting, images of the fewest steps moreover lie closer to training
  people than to as many new people more often than not (95 % interval), which smooth images do not;
- refuted: the interval lies below the margin;
- not decided: otherwise.

A training is one draw, whatever the number of images measured. The trend takes it as such: with one training for each
of five T it takes an order with one pair of neighbours out of place at most. The interval does so only where there is
more than one seed; with one, it holds what the choice of images and cells adds.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 0.05
COST_MARGIN = 0.1
NEAREST_MARGIN = 0.05

RULE = (
    "confirmed: the interval of the effect lies above the margin, and the trend over all trainings has p <= 0.05 (for "
    "overfitting, moreover, over half of the images lie closer to training people than to as many new people); "
    "refuted: the interval lies below the margin; not decided: otherwise"
)


class Effect(NamedTuple):
    """An effect in the direction of the claim, with its interval."""

    value: float
    low: float
    high: float


class Trend(NamedTuple):
    """Kendall's tau of a measure with T, and the p-value of no trend against the claimed one."""

    tau: float
    p: float


def judge_claims(table: pd.DataFrame) -> pd.DataFrame:
    """Judge every claim, the first and the third for unscaled and scaled betas.

    Args:
        table: `ablation_table`: the columns timesteps, betas, seed, identity, those of `Measures`, and the floor's.

    Returns:
        One row a claim: claim, betas, measured (in words), effect, low, high, margin, tau, p, trainings, rests_on
        (in words), verdict, rule.
    """
    rows = []
    for betas, part in table.groupby("betas", sort=False):
        rows.append(_more_steps_denoise_better(part) | {"betas": betas, "rests_on": _rests_on(part)})
    trainings = table.drop_duplicates("identity")
    rows.append(_training_takes_longer(trainings) | {"betas": "both", "rests_on": f"{len(trainings)} trainings"})
    for betas, part in table.groupby("betas", sort=False):
        rows.append(_few_steps_overfit(part) | {"betas": betas, "rests_on": _rests_on(part)})
    first = ["claim", "betas", "verdict", "measured"]
    claims = pd.DataFrame(rows).assign(rule=RULE)
    return claims[[*first, *claims.columns.drop([*first, "rests_on", "rule"]), "rests_on", "rule"]]


def verdict(effect: Effect, margin: float, trend: Trend, besides: bool = True) -> str:
    """The rule at the top of this module; `besides` is what a claim needs moreover."""
    if effect.low > margin and trend.p <= ALPHA and besides:
        return "confirmed"
    return "refuted" if effect.high < margin else "not decided"


def _more_steps_denoise_better(table: pd.DataFrame) -> dict[str, object]:
    few, many = _ends(table)
    effect = _difference(table, "kernel_distance")
    margin = max(0.0, float(table["floor_kernel_distance_high"].iloc[0]))
    said = (
        f"kernel distance {_mean(table, few, 'kernel_distance'):.4g} with {few} steps and "
        f"{_mean(table, many, 'kernel_distance'):.4g} with {many}; floor "
        f"{table['floor_kernel_distance'].iloc[0]:.4g}; sampling starts from no signal, where {few} steps leave "
        f"{_mean(table, few, 'alpha_bar_last'):.2g} of it"
    )
    return _row("more steps denoise better", said, effect, margin, _trend(table, "kernel_distance", "less"))


def _training_takes_longer(table: pd.DataFrame) -> dict[str, object]:
    few, many = _ends(table)
    effect = _growth(table, "training_seconds")
    sampling = _mean(table, many, "sampling_seconds") / _mean(table, few, "sampling_seconds")
    said = (
        f"a training image costs {_mean(table, few, 'training_seconds'):.2g} s with {few} steps and "
        f"{_mean(table, many, 'training_seconds'):.2g} s with {many}: {effect.value:+.0%} along the fitted line; "
        f"sampling an image costs {sampling:.2g} times as much"
    )
    return _row("training takes longer", said, effect, COST_MARGIN, _trend(table, "training_seconds", "greater"))


def _few_steps_overfit(table: pd.DataFrame) -> dict[str, object]:
    few, many = _ends(table)
    ratio, error, freedom = _estimate(table, few, "nearest_ratio")
    closer, closer_error, _ = _estimate(table, few, "closer_to_training")
    reach = _quantile(freedom) * error
    copied = closer - _quantile(freedom) * closer_error > 0.5
    effect = Effect(1 - ratio, 1 - ratio - reach, 1 - ratio + reach)
    said = (
        f"with {few} and {many} steps the nearest training cell is {ratio:.2f} and "
        f"{_mean(table, many, 'nearest_ratio'):.2f} times as far from an image as from a new cell; {closer:.0%} and "
        f"{_mean(table, many, 'closer_to_training'):.0%} of the images lie closer to training than to new people; "
        f"validation loss: {_mean(table, few, 'loss_gap'):+.1%} and {_mean(table, many, 'loss_gap'):+.1%} off that on "
        "training cells"
    )
    trend = _trend(table, "nearest_ratio", "greater")
    return _row("few steps look like overfitting", said, effect, NEAREST_MARGIN, trend, copied)


def _row(claim: str, said: str, effect: Effect, margin: float, trend: Trend, besides: bool = True) -> dict[str, object]:
    return {
        "claim": claim,
        "verdict": verdict(effect, margin, trend, besides),
        "measured": said,
        "effect": effect.value,
        "low": effect.low,
        "high": effect.high,
        "margin": margin,
        "tau": trend.tau,
        "p": trend.p,
    }


def _ends(table: pd.DataFrame) -> tuple[int, int]:
    return int(table["timesteps"].min()), int(table["timesteps"].max())


def _mean(table: pd.DataFrame, timesteps: int, column: str) -> float:
    return float(table.loc[table["timesteps"] == timesteps, column].mean())


def _estimate(table: pd.DataFrame, timesteps: int, column: str) -> tuple[float, float, float]:
    """Mean over the trainings with so many steps, its standard error, and the error's degrees of freedom.

    With several seeds the error is that between trainings, pooled over T; with one, that of the images.
    """
    here = table[table["timesteps"] == timesteps]
    seeds = table["seed"].nunique()
    if seeds == 1:
        return float(here[column].iloc[0]), float(here[f"{column}_error"].iloc[0]), np.inf
    groups = table.groupby("timesteps")[column]
    return float(here[column].mean()), float(np.sqrt(groups.var().mean() / seeds)), groups.ngroups * (seeds - 1)


def _difference(table: pd.DataFrame, column: str) -> Effect:
    """How much larger a measure is with the fewest steps than with the most."""
    few, many = _ends(table)
    first, first_error, freedom = _estimate(table, few, column)
    last, last_error, _ = _estimate(table, many, column)
    reach = _quantile(freedom) * np.hypot(first_error, last_error)
    return Effect(first - last, float(first - last - reach), float(first - last + reach))


def _growth(table: pd.DataFrame, column: str) -> Effect:
    """By what part a measure grows from the fewest steps to the most, along a line in log T and log measure."""
    few, many = _ends(table)
    fit = stats.linregress(np.log(table["timesteps"]), np.log(table[column]))
    span = np.log(many / few)
    reach = _quantile(len(table) - 2) * fit.stderr
    low, value, high = np.expm1(span * np.array([fit.slope - reach, fit.slope, fit.slope + reach]))
    return Effect(float(value), float(low), float(high))


def _trend(table: pd.DataFrame, column: str, claimed: Literal["less", "greater"]) -> Trend:
    found = stats.kendalltau(table["timesteps"], table[column], alternative=claimed)
    return Trend(float(found.statistic), float(found.pvalue))


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def _rests_on(table: pd.DataFrame) -> str:
    seeds = table["seed"].nunique()
    if seeds == 1:
        return f"{len(table)} trainings, one for each T: the interval holds the chance of the images, not of a training"
    return f"{len(table)} trainings, {seeds} for each T: the interval holds the chance of a training"
