"""Does the model's loss tell the cells it was trained on from others of the same people?

The attack by a threshold of the denoising loss (Matsumoto et al. 2023; Carlini et al. 2023, section 5.1), in its
strongest position: it holds the network, every cell and its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm.auto import tqdm

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.privacy.novelty import matched_draws
from malaria_diffusion.statistics.bootstrap import Bootstrap

if TYPE_CHECKING:  # they import torch
    from malaria_diffusion.compute.device import Compute
    from malaria_diffusion.diffusion.sampling import Denoiser

CELLS = 240
TIMESTEPS = 8
FALSE_POSITIVE_RATE = 0.01
BATCH = 60
FEWEST = 20

DEFINITIONS = {
    "auc": "area under the ROC curve of minus the denoising loss, members against non-members of the same people and "
    "classes; 0.5 is chance, 1 is certainty",
    "low, high": "of auc, and of tpr: bootstrap interval, people resampled",
    "tpr": "share of members found by the threshold that takes at most 1 % of non-members for members; 0.01 is chance",
    "loss": "mean squared error of the predicted noise, the same noise for all cells, divided at each timestep by its "
    "standard deviation over cells, mean over timesteps",
}


class Membership(NamedTuple):
    """What the attack found.

    Attributes:
        summary: Ready for JSON: testable, reason (if not), members, non_members, people, matched_by, auc with low and
            high, tpr with tpr_low and tpr_high, fpr (what the threshold takes) and verdict.
        losses: One row a cell: row (index in its table), member, person, label, loss.
        by_timestep: One row a timestep: t (from 0), auc of its loss alone.
        roc: The curve: fpr, tpr.

    If the attack cannot be made, only testable, reason and the numbers are there and the tables have no rows.
    """

    summary: dict[str, Any]
    losses: pd.DataFrame
    by_timestep: pd.DataFrame
    roc: pd.DataFrame


def membership_attack(
    denoiser: Denoiser, members: Cells, audit: Cells, compute: Compute, bootstrap: Bootstrap, seed: int
) -> Membership:
    """Attack with non-members and as many members of the same people and classes, at most `CELLS` of each.

    Args:
        denoiser: Of the model.
        members: Training cells, of which a few are read.
        audit: Non-members: cells of the same people that nothing was trained on.
        compute: Where, and in which precision.
        bootstrap: Of people; its draws choose the cells, too.
        seed: Of the noise.

    Returns:
        See `Membership`. With fewer than 20 non-members, or all of one person, it says that nothing can be tested.

    Raises:
        UserError: losses are not finite.
    """
    member_table, audit_table = members.table, audit.table
    draws, matched_by = matched_draws(member_table, audit_table, 1, bootstrap.rng)
    matched, held_out = draws[0] if draws else (np.empty(0, dtype=int), np.empty(0, dtype=int))
    # the pairs are of the same person and class
    kept = np.sort(bootstrap.rng.permutation(len(matched))[:CELLS])
    matched, held_out = matched[kept], held_out[kept]
    table = pd.concat([member_table.iloc[matched], audit_table.iloc[held_out]])
    people, is_member = table["person"].to_numpy(dtype=str), np.arange(len(table)) < len(matched)
    number = len(np.unique(people))
    summary: dict[str, Any] = {
        "testable": len(held_out) >= FEWEST and number >= 2,
        "reason": "",
        "members": len(matched),
        "non_members": len(held_out),
        "people": number,
        "matched_by": matched_by,
    }
    if not summary["testable"]:
        summary["reason"] = (
            f"{len(held_out)} cells of {number} training people were kept out of the training and have training cells "
            f"to match, at least {FEWEST} of two people are needed; raise data_processing.split.audit_fraction"
        )
        return Membership(summary, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    sides = members[matched], audit[held_out]
    images, classes = (
        np.concatenate(parts) for parts in zip(*((side.pixels, side.classes) for side in sides), strict=True)
    )
    steps = attack_timesteps(denoiser.diffusion.timesteps)
    each = denoising_losses(denoiser, images, classes, steps, seed, compute)
    loss = standardised(each)
    fpr, tpr, _ = roc_curve(is_member, -loss, drop_intermediate=False)
    summary |= _intervals(loss, is_member, people, bootstrap)
    losses = pd.DataFrame(
        {"row": table.index, "member": is_member, "person": people, "label": table["label"].to_numpy(), "loss": loss}
    )
    single = [float(roc_auc_score(is_member, -column)) for column in each.T]
    by_timestep = pd.DataFrame({"t": steps, "auc": single})
    return Membership(summary, losses, by_timestep, pd.DataFrame({"fpr": fpr, "tpr": tpr}))


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


def _intervals(
    loss: NDArray[np.float64],
    is_member: NDArray[np.bool_],
    people: NDArray[np.str_],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    names, owner = np.unique(people, return_inverse=True)
    weights = bootstrap.counts(len(names))[:, owner]
    # without names of people, a resample may lack one side
    both = (weights[:, is_member].sum(axis=1) > 0) & (weights[:, ~is_member].sum(axis=1) > 0)
    drawn = weighted_roc(loss, is_member, weights[both].astype(np.float64))[:2]
    (low, high), (tpr_low, tpr_high) = (bootstrap.interval(values) for values in drawn)
    _, tpr, fpr = weighted_roc(loss, is_member, np.ones((1, len(loss))))
    verdict = "members are told apart" if low > 0.5 else "members are not told apart"
    return {
        "auc": float(roc_auc_score(is_member, -loss)),
        "low": low,
        "high": high,
        "tpr": float(tpr[0]),
        "tpr_low": tpr_low,
        "tpr_high": tpr_high,
        "fpr": float(fpr[0]),
        "verdict": verdict,
    }


def weighted_roc(
    loss: NDArray[np.float64], is_member: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The curve for many weightings of the cells at once, (R, N), which one by one takes seconds.

    Returns:
        The area, the largest true positive rate of a threshold with a false positive rate of at most 1 %, and the
        false positive rate there: (R,) each.
    """
    order = np.argsort(loss, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(loss[order]) > 0, True))
    rates = []
    for side in (is_member, ~is_member):
        total = np.cumsum((weights * side)[:, order], axis=1)[:, ends]
        rates.append(np.pad(total / total[:, -1:], ((0, 0), (1, 0))))
    tpr, fpr = rates
    place = (fpr <= FALSE_POSITIVE_RATE + 1e-12).sum(axis=1) - 1
    rows = np.arange(len(weights))
    return np.asarray(np.trapezoid(tpr, fpr, axis=1)), tpr[rows, place], fpr[rows, place]
