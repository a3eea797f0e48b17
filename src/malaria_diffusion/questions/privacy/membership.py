"""Does the model's loss tell the cells, or the people, that it was trained on from others?

The attack by a threshold of the denoising loss (Matsumoto et al. 2023; Carlini et al. 2023, section 5.1), in its
strongest position: it holds the network, every cell and its class, and knows of other people's cells how hard each is
(Tang et al. 2024). A cell is told within its person and class; a person by the mean over some of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, rankdata
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from tqdm.auto import tqdm

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.privacy.novelty import matched_strata
from malaria_diffusion.statistics.bootstrap import Bootstrap, Interval
from malaria_diffusion.statistics.jackknife import Jackknife

if TYPE_CHECKING:  # they import torch
    from malaria_diffusion.compute.device import Compute
    from malaria_diffusion.diffusion.sampling import Denoiser

MEMBERS_EACH = 2  # beside each non-member
CELLS_EACH = 10  # of a person
TIMESTEPS = 8
FALSE_POSITIVE_RATE = 0.01
FEWEST_FALSE = 5  # non-members above the threshold, for that rate to be stated
RESAMPLES = 1000
BATCH = 60
FEWEST = 20
FEWEST_PEOPLE = 10


class Membership(NamedTuple):
    """What the attack found.

    Attributes:
        summary: Ready for JSON: testable, reason (if not), members, non_members, people, matched_by, auc with low and
            high, uncalibrated (the same of the loss as it is), tpr with tpr_low and tpr_high and fpr (what the
            threshold takes; None where non-members are too few), verdict, and by_person: testable, reason (if not),
            rows and verdict.
        losses: One row a cell: row (place in the set), person, label, loss, difficulty, member.
        roc: The curve: fpr, tpr.

    If the attack cannot be made, only testable, reason and the numbers are there and the tables have no rows.
    """

    summary: dict[str, Any]
    losses: pd.DataFrame
    roc: pd.DataFrame


def membership_attack(
    denoiser: Denoiser, study: Cells, compute: Compute, confidence: float, rng: np.random.Generator
) -> Membership:
    """Attack with all non-members and members of the same people and classes, and with people.

    Args:
        denoiser: Of the model.
        study: Cells with their split. Non-members are its audit cells; difficulty is learned from its validation
            people, and its test people are those who were not trained on.
        compute: Where, and in which precision.
        confidence: Of the intervals.
        rng: Chooses cells and noise.

    Returns:
        See `Membership`. With fewer than 20 non-members, or all of one person, it says that nothing can be tested.

    Raises:
        UserError: losses are not finite.
    """
    members, audit = study.part("train"), study.part("audit")
    strata, matched_by = matched_strata(members.table, audit.table)
    chosen = [rng.permutation(inside)[: MEMBERS_EACH * len(out)] for inside, out in strata]
    inside = members[np.concatenate(chosen)] if strata else members[:0]
    outside = audit[np.concatenate([out for _, out in strata])] if strata else audit[:0]
    number = len({*outside.people.tolist()})
    summary: dict[str, Any] = {
        "testable": len(outside) >= FEWEST and number >= 2,
        "reason": "",
        "members": len(inside),
        "non_members": len(outside),
        "people": number,
        "matched_by": matched_by,
    }
    if not summary["testable"]:
        summary["reason"] = (
            f"{len(outside)} cells of {number} training people were kept out of the training and have training cells "
            f"to match, at least {FEWEST} of two people are needed; raise data_processing.split.audit_fraction"
        )
        return Membership(summary, *(pd.DataFrame() for _ in Membership._fields[1:]))
    sides = {
        "member": inside,
        "non-member": outside,
        "val": some_of_each(study.part("val"), rng),
        "test": some_of_each(study.part("test"), rng),
    }
    steps = attack_timesteps(denoiser.diffusion.timesteps)
    cells = _with_losses(denoiser, sides, steps, int(rng.integers(2**63)), compute)
    losses = cells[cells["side"].isin(["member", "non-member"])].assign(member=lambda table: table["side"] == "member")
    stratum = np.asarray(losses.groupby(matched_by.split(" and ")).ngroup(), dtype=np.int64)
    summary |= _told_apart(losses, stratum, Bootstrap(RESAMPLES, confidence, rng))
    summary["by_person"] = _by_person(cells, matched_by, confidence)
    fpr, tpr, _ = roc_curve(losses["member"], losses["difficulty"] - losses["loss"], drop_intermediate=False)
    return Membership(summary, losses.drop(columns="side"), pd.DataFrame({"fpr": fpr, "tpr": tpr}))


def _with_losses(
    denoiser: Denoiser, sides: dict[str, Cells], steps: NDArray[np.int64], seed: int, compute: Compute
) -> pd.DataFrame:
    """One row a cell: side, row, person, label, loss, difficulty."""
    images, classes = (
        np.concatenate(parts) for parts in zip(*((c.pixels, c.classes) for c in sides.values()), strict=True)
    )
    each = denoising_losses(denoiser, images, classes, steps, seed, compute)
    parts = [
        pd.DataFrame({"side": name, "row": cells.places, "person": cells.people, "label": cells.labels})
        for name, cells in sides.items()
    ]
    table = pd.concat(parts, ignore_index=True).assign(loss=standardised(each))
    known = (table["side"] == "val").to_numpy()
    return table.assign(difficulty=difficulty(images, classes, table["loss"].to_numpy(), known))


def _told_apart(losses: pd.DataFrame, stratum: NDArray[np.int64], bootstrap: Bootstrap) -> dict[str, Any]:
    """What `Membership.summary` says of how well cells are told apart by either loss."""
    is_member, loss = losses["member"].to_numpy(), losses["loss"].to_numpy()
    easier, person = loss - losses["difficulty"].to_numpy(), losses["person"].to_numpy(dtype=str)

    def measure(weights: NDArray[np.float64]) -> dict[str, float]:
        kept = weights > 0
        auc, plain = (stratified_auc(values[kept], is_member[kept], stratum[kept]) for values in (easier, loss))
        return {"auc": auc, "uncalibrated": plain}

    jackknife = Jackknife(measure, person, bootstrap.confidence)
    auc, plain = ({"auc": jackknife.values[name]} | jackknife.share(name)._asdict() for name in jackknife.values)
    rates: dict[str, float | None] = dict.fromkeys(("tpr", "tpr_low", "tpr_high", "fpr"))
    if FALSE_POSITIVE_RATE * (~is_member).sum() >= FEWEST_FALSE:
        tpr, fpr = true_positive_rate(easier, is_member)
        low, high = rate_interval(easier, is_member, person, FALSE_POSITIVE_RATE, bootstrap)
        rates = {"tpr": tpr, "tpr_low": low, "tpr_high": high, "fpr": fpr}
    verdict = "members are told apart" if auc["low"] > 0.5 else "members are not told apart"
    return auc | {"uncalibrated": plain} | rates | {"verdict": verdict}


def stratified_auc(loss: NDArray[np.float64], is_member: NDArray[np.bool_], stratum: NDArray[np.int64]) -> float:
    """Chance that a member has the smaller loss, within strata that have both sides (ties half); NaN if none has.

    Strata weigh mn / (m + n + 1), which is best where all differ alike (van Elteren 1960).
    """
    above = total = 0.0
    order = np.argsort(stratum, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(stratum[order])) + 1):
        inside = is_member[rows]
        m, n = int(inside.sum()), int((~inside).sum())
        if m and n:
            won = rankdata(-loss[rows])[inside].sum() - m * (m + 1) / 2
            above += won / (m + n + 1)
            total += m * n / (m + n + 1)
    return above / total if total else float("nan")


def true_positive_rate(
    loss: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    rate: float = FALSE_POSITIVE_RATE,
    weights: NDArray[np.float64] | None = None,
) -> tuple[float, float]:
    """The largest share of members below a threshold with at most `rate` of non-members below it, and that share; NaN
    without both.

    Args:
        loss: (N,).
        is_member: (N,).
        rate: Of non-members.
        weights: How often each counts, (N,); None: once.
    """
    if weights is not None:
        kept = weights > 0
        loss, is_member, weights = loss[kept], is_member[kept], weights[kept]
    if is_member.all() or not is_member.any():
        return float("nan"), float("nan")
    fpr, tpr, _ = roc_curve(is_member, -loss, sample_weight=weights, drop_intermediate=False)
    place = int((fpr <= rate + 1e-12).sum()) - 1
    return float(tpr[place]), float(fpr[place])


def rate_interval(
    loss: NDArray[np.float64], is_member: NDArray[np.bool_], person: NDArray[np.str_], rate: float, bootstrap: Bootstrap
) -> Interval:
    """Of the first of `true_positive_rate`, of people drawn anew, each time with a threshold of their own.

    A jackknife of a threshold that one in a hundred passes is too short: 0.88 of those at 0.95 hold, of these 0.93 or
    more (benchmarks/coverage.py).
    """
    names, owner = np.unique(person, return_inverse=True)
    drawn = [
        true_positive_rate(loss, is_member, rate, times[owner].astype(float))[0]
        for times in bootstrap.counts(len(names))
    ]
    return bootstrap.interval(np.array(drawn)[np.isfinite(drawn)])


def difficulty(
    images: NDArray[np.uint8], classes: NDArray[np.int64], loss: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The loss to expect of each image, (N,), by what it looks like: a ridge regression on `known` cells, (N,).

    Nothing is expected, 0, where fewer than 20 cells are known.
    """
    if known.sum() < FEWEST:
        return np.zeros(len(images))
    looks = _looks(images, classes)
    model = make_pipeline(
        StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(), RidgeCV(np.logspace(-1, 4, 11))
    )
    expected: NDArray[np.float64] = model.fit(looks[known], loss[known]).predict(looks)
    low, high = loss[known].min(), loss[known].max()
    return expected.clip(low, high)  # nothing is known beyond


def _looks(images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Colour, contrast, detail, size and class of each image, (N, D)."""
    pixels = images.astype(np.float32) / 255
    grey = pixels.mean(axis=1)
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    looks = [
        *pixels.mean(axis=(2, 3)).T,
        *pixels.std(axis=(2, 3)).T,
        np.abs(across).mean(axis=(1, 2)) + np.abs(down).mean(axis=(1, 2)),
        np.sqrt(np.square(across).mean(axis=(1, 2)) + np.square(down).mean(axis=(1, 2))),
        np.abs(np.diff(across, axis=2)).mean(axis=(1, 2)) + np.abs(np.diff(down, axis=1)).mean(axis=(1, 2)),
        (np.abs(grey - np.median(grey[:, [0, 0, -1, -1], [0, -1, 0, -1]], axis=1)[:, None, None]) > 0.1).mean(
            axis=(1, 2)
        ),
    ]
    return np.column_stack([*looks, *np.eye(int(classes.max()) + 1)[classes].T]).astype(np.float64)


def some_of_each(cells: Cells, rng: np.random.Generator) -> Cells:
    """At most `CELLS_EACH` random cells of each person."""
    order = rng.permutation(len(cells))
    rank = pd.Series(cells.people[order]).groupby(cells.people[order]).cumcount().to_numpy()
    return cells[np.sort(order[rank < CELLS_EACH])]


def _by_person(cells: pd.DataFrame, matched_by: str, confidence: float) -> dict[str, Any]:
    """Whether people who were trained on have a smaller mean loss than those of the test."""
    first = cells[cells.groupby(["side", "person"]).cumcount() < CELLS_EACH]
    means = (first["loss"] - first["difficulty"]).groupby([first["side"], first["person"]]).mean()
    others, members, audit = (
        means[means.index.get_level_values("side") == side].to_numpy() for side in ("test", "member", "non-member")
    )
    known = {"trained on": members, "never trained on": audit}
    if "person" not in matched_by:
        return {"testable": False, "reason": "names tell no people"}
    if (fewest := min(len(others), len(members), len(audit))) < FEWEST_PEOPLE:
        reason = f"{fewest} people on one side, and at least {FEWEST_PEOPLE} are needed"
        return {"testable": False, "reason": reason}
    rows: list[dict[str, Any]] = []
    for which, inside in known.items():
        auc, (low, high) = _auc_of_people(inside, others, confidence)
        rows.append(
            {
                "cells": which,
                "training_people": len(inside),
                "other_people": len(others),
                "auc": auc,
                "low": low,
                "high": high,
                "p_value": float(mannwhitneyu(inside, others, alternative="less").pvalue),
            }
        )
    told = any(row["p_value"] < (1 - confidence) / len(rows) for row in rows)  # Bonferroni
    verdict = "people are told apart" if told else "people are not told apart"
    return {"testable": True, "reason": "", "rows": rows, "verdict": verdict}


def _auc_of_people(
    known: NDArray[np.float64], others: NDArray[np.float64], confidence: float
) -> tuple[float, Interval]:
    means, inside = np.concatenate([known, others]), np.arange(len(known) + len(others)) < len(known)

    def measure(weights: NDArray[np.float64]) -> dict[str, float]:
        kept = weights > 0
        return {"auc": stratified_auc(means[kept], inside[kept], np.zeros(int(kept.sum()), np.int64))}

    jackknife = Jackknife(measure, np.arange(len(means)).astype(str), confidence)
    return jackknife.values["auc"], jackknife.share("auc")


def attack_timesteps(timesteps: int) -> NDArray[np.int64]:
    """Eight timesteps spread over the first half of 0 to T - 1, fewer if T is small: (K,).

    Where noise is strong a loss tells of the noise alone (Carlini et al. 2023, section 5.1: best at a tenth of T).
    """
    return np.unique((np.arange(TIMESTEPS) + 0.5) * timesteps / 2 // TIMESTEPS).astype(np.int64)


def denoising_losses(
    denoiser: Denoiser,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    timesteps: NDArray[np.int64],
    seed: int,
    compute: Compute,
) -> NDArray[np.float64]:
    """Mean squared error of the noise that the network implies, whatever it predicts: (N, K).

    Args:
        denoiser: See `membership_attack`.
        images: uint8, (N, 3, S, S).
        labels: Class indices, (N,).
        timesteps: (K,); all cells share one noise image at each.
        seed: Of the noise.
        compute: Where, and in which precision.

    Raises:
        UserError: a loss is not finite.
    """
    import torch

    device, precision = compute
    diffusion = denoiser.diffusion.to(device)
    network = denoiser.network.to(device).to(memory_format=torch.channels_last).eval()
    noise = np.random.default_rng(seed).standard_normal((len(timesteps), *images.shape[1:]), dtype=np.float32)
    losses = np.empty((len(images), len(timesteps)))
    with torch.no_grad(), tqdm(total=losses.size, desc="membership", unit="evaluation") as bar:
        for start in range(0, len(images), BATCH):
            x_0 = torch.tensor(images[start : start + BATCH], dtype=torch.float32, device=device) / 127.5 - 1
            classes = torch.tensor(labels[start : start + BATCH], device=device)
            for column, step in enumerate(timesteps):
                epsilon = torch.tensor(noise[column], device=device).expand_as(x_0)
                t = torch.full((len(x_0),), int(step), device=device)
                x_t = diffusion.q_sample(x_0, t, epsilon)
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    output = network(x_t, t, class_labels=classes).sample.float()
                error = diffusion.predict_epsilon(output, x_t, t) - epsilon
                losses[start : start + len(x_0), column] = error.square().mean(dim=(1, 2, 3)).cpu()
                bar.update(len(x_0))
    if not np.isfinite(losses).all():
        raise UserError("the model's losses are not finite; compute with precision float32, or train the model again")
    return losses


def standardised(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """One loss a cell, (N,), of those at each timestep, (N, K), which differ by orders of magnitude."""
    deviation = losses.std(axis=0)
    centred = losses - losses.mean(axis=0)
    standard = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    mean: NDArray[np.float64] = standard.mean(axis=1)
    return mean
