"""The likelihood-ratio attack on membership (LiRA; Carlini et al. 2022, "Membership inference attacks from first
principles", online with the variance pooled over cells, section IV-C; of diffusion models Carlini et al. 2023,
"Extracting training data from diffusion models", section 5.1), beside the attack by a threshold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import roc_curve

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.questions.privacy.membership import (
    FEWEST,
    FEWEST_FALSE,
    RESAMPLES,
    difficulty,
    rate_interval,
    standardised,
    stratified_auc,
    true_positive_rate,
)
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.jackknife import Jackknife
from malaria_diffusion.studies.shadow.design import Design

SHADOWS, MODEL = "shadow models", "diffusion model"
LIKELIHOOD_RATIO, THRESHOLD = "likelihood ratio", "threshold"
RATES = (0.01, 0.001)  # of non-members taken for members
TOLD, NOTHING = "members are told apart", "nothing found by this attack"


class Target(NamedTuple):
    """Cells under one attacked model.

    Attributes:
        member: Whether each trained it, (A,).
        scores: By attack, (A,): the larger, the likelier a member.
    """

    member: NDArray[np.bool_]
    scores: dict[str, NDArray[np.float64]]


class Attack(NamedTuple):
    """What both attacks found.

    Attributes:
        metrics: One row for each target (every shadow, all together, the model), attack and metric: target, attack,
            metric ("auc", "tpr at 0.01", "tpr at 0.001"), value, low, high, members, non_members. A single shadow has
            no interval. Rates are stated where five non-members at least may be above the threshold.
        summary: Ready for JSON: for "shadow models" and "diffusion model" testable, reason (if not), models, members
            and non_members (of each model's cells), verdict (by the likelihood ratio) and by attack the metrics and,
            over shadows, the spread (standard deviation) of their AUC.
        roc: The curves: target, attack, fpr, tpr, over all cells of all targets together.
    """

    metrics: pd.DataFrame
    summary: dict[str, Any]
    roc: pd.DataFrame


def likelihood_ratio(
    loss: NDArray[np.float64], others: NDArray[np.float64], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Logarithm of the likelihood of each loss if the cell was trained on, over that if it was not, (N,).

    Both are normal, their variance is pooled over cells, and their means are those of the other models with and without
    the cell. How far these are apart is shrunk to the mean over cells as far as chance explains the differences (James
    & Stein 1961): wholly where no cell has two models on one side. Training on a cell raises no loss: no cell's means
    are taken to be less apart, that way round, than the standard error of that mean. Otherwise models that remember
    nothing would, each both target and witness, agree by chance on a direction.

    Args:
        loss: Under the attacked model, (N,).
        others: Under other models, (N, K).
        inside: Whether the cell trained them, (N, K): each of K / 2.
    """
    half = others.shape[1] // 2
    without, within = (others[side].reshape(-1, half) for side in (~inside, inside))  # each cell has half of them
    apart = without.mean(axis=1) - within.mean(axis=1)
    found = float(apart.var())
    variance = found / 2
    if half > 1:
        variance = float(np.mean([side.var(axis=1, ddof=1) for side in (without, within)]))
    if variance == 0:
        return np.zeros(len(loss))
    by_chance = 2 / half * variance
    found = max(found, by_chance)
    shrunk = apart.mean() + (1 - by_chance / found) * (apart - apart.mean())
    apart = np.maximum(shrunk, np.sqrt(found / len(apart)))
    middle, deviation = others.mean(axis=1), np.sqrt(variance)
    ratio: NDArray[np.float64] = norm.logpdf(loss, middle - apart / 2, deviation) - norm.logpdf(
        loss, middle + apart / 2, deviation
    )
    return ratio


def targets(
    design: Design, measured: Cells, shadows: list[NDArray[np.float64]], model: NDArray[np.float64]
) -> tuple[list[Target], Target]:
    """Both attacks on each shadow, by all others but the one that has the other half of its cells, and on the model.

    Args:
        design: Which cells train which shadow.
        measured: The attacked cells, and after them validation people's.
        shadows: Losses of the measured cells under each shadow, (N, timesteps).
        model: The same under the model.
    """
    number, inside = len(design.attacked), design.inside[design.attacked]
    known = np.arange(len(measured)) >= number
    # loss by loss on a scale on which models of other lengths, and easy and hard cells, vary alike
    logs = [standardised(np.log(np.maximum(losses, np.finfo(float).tiny)))[:number] for losses in (*shadows, model)]
    plain = [standardised(losses) for losses in (*shadows, model)]
    images, classes = measured.pixels, measured.classes
    by_threshold = [(difficulty(images, classes, losses, known) - losses)[:number] for losses in plain]
    together = np.stack(logs[:-1], axis=1)
    found = []
    for place in range(len(shadows)):
        others = np.arange(len(shadows)) // 2 != place // 2
        ratio = likelihood_ratio(logs[place], together[:, others], inside[:, others])
        found.append(Target(inside[:, place], {LIKELIHOOD_RATIO: ratio, THRESHOLD: by_threshold[place]}))
    ratio = likelihood_ratio(logs[-1], together, inside)
    trained_on = ~design.pool.table["audit"].to_numpy(dtype=bool)[design.attacked]
    return found, Target(trained_on, {LIKELIHOOD_RATIO: ratio, THRESHOLD: by_threshold[-1]})


def attack(shadows: list[Target], model: Target, design: Design, confidence: float) -> Attack:
    """How well members are told apart within person and class, in shadows and in the model.

    Args:
        shadows: Each as the target, see `targets`.
        model: The diffusion model as the target.
        design: Persons and classes of the attacked cells.
        confidence: Of the intervals, which are for other people's cells under these trainings; the spread over
            shadows tells of other trainings.
    """
    people, stratum = design.pool.people[design.attacked], design.stratum[design.attacked]
    rows, curves, summary = [], [], dict[str, Any]()
    for name, attacked in ((SHADOWS, shadows), (MODEL, [model])):
        if reason := _too_few(attacked, stratum):
            summary[name] = {"testable": False, "reason": reason}
            continue
        summary[name] = {"testable": True, "reason": "", "models": len(attacked)}
        for kind in (LIKELIHOOD_RATIO, THRESHOLD):
            found, each = _measured(attacked, kind, people, stratum, confidence)
            members, scores = _together(attacked, kind)
            counts = {"members": int(members.sum()), "non_members": int((~members).sum())}
            rows += [{"target": name, "attack": kind, "metric": key} | one | counts for key, one in found.items()]
            if len(attacked) > 1:
                rows += [
                    {"target": f"shadow {number}", "attack": kind, "metric": "auc", "value": auc}
                    | {"members": int(one.member.sum()), "non_members": int((~one.member).sum())}
                    for number, (one, auc) in enumerate(zip(attacked, each, strict=True))
                ]
            spread = {"spread": float(each.std(ddof=1))} if len(each) > 1 else {}
            summary[name] |= counts | {kind: found | spread}
            fpr, tpr, _ = roc_curve(members, scores)
            curves.append(pd.DataFrame({"target": name, "attack": kind, "fpr": fpr, "tpr": tpr}))
        summary[name]["verdict"] = TOLD if summary[name][LIKELIHOOD_RATIO]["auc"]["low"] > 0.5 else NOTHING
    return Attack(pd.DataFrame(rows), summary, pd.concat(curves, ignore_index=True) if curves else pd.DataFrame())


def _measured(
    attacked: list[Target], kind: str, people: NDArray[np.str_], stratum: NDArray[np.int64], confidence: float
) -> tuple[dict[str, dict[str, float]], NDArray[np.float64]]:
    """AUC and rates of one attack with intervals, and the AUC of each target."""
    non_members = sum(int((~target.member).sum()) for target in attacked)
    rates = [rate for rate in RATES if rate * non_members >= FEWEST_FALSE]

    def aucs(kept: NDArray[np.bool_]) -> list[float]:
        return [stratified_auc(-one.scores[kind][kept], one.member[kept], stratum[kept]) for one in attacked]

    jackknife = Jackknife(lambda weights: {"auc": float(np.mean(aucs(weights > 0)))}, people, confidence)
    found = {"auc": {"value": jackknife.values["auc"]} | jackknife.share("auc")._asdict()}
    members, scores = _together(attacked, kind)
    bootstrap = Bootstrap(RESAMPLES, confidence, np.random.default_rng(0))
    for rate in rates:
        interval = rate_interval(-scores, members, np.tile(people, len(attacked)), rate, bootstrap)
        value = true_positive_rate(-scores, members, rate)[0]
        found[f"tpr at {rate:g}"] = {"value": value} | interval._asdict()
    return found, np.array(aucs(np.ones(len(people), dtype=bool)))


def _together(attacked: list[Target], kind: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Members and scores of all targets' cells, one target after the other."""
    return (
        np.concatenate([target.member for target in attacked]),
        np.concatenate([target.scores[kind] for target in attacked]),
    )


def _too_few(attacked: list[Target], stratum: NDArray[np.int64]) -> str:
    """Why targets cannot be attacked; nothing if they can."""
    fewest = min(
        min(int((one.member & _both(one, stratum)).sum()), int((~one.member & _both(one, stratum)).sum()))
        for one in attacked
    )
    if fewest >= FEWEST:
        return ""
    return (
        f"{fewest} members or non-members have others of their person and class beside them, at least {FEWEST} are "
        "needed; raise data_processing.split.audit_fraction or shadow_models.cells"
    )


def _both(target: Target, stratum: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which cells are of a stratum that has members and non-members."""
    size = int(stratum.max()) + 1
    sides = [np.bincount(stratum[side], minlength=size)[stratum] > 0 for side in (target.member, ~target.member)]
    both: NDArray[np.bool_] = sides[0] & sides[1]
    return both
