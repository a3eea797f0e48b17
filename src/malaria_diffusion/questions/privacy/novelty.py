"""Are synthetic cells new, or do they repeat the cells that the model was trained on?

Members are training cells. Non-members are cells of the same people that nothing was trained on: as any cell may
have been chosen for either, whatever brings synthetic cells closer to members is what the model remembers of them.
Other people's cells would not do, as they differ in stain.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.stats import betabinom, binomtest

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import compared_groups
from malaria_diffusion.statistics.nearest import (
    NEIGHBOURS,
    SHIFTS,
    TRANSFORMS,
    Embedding,
    Matched,
    Nearest,
    Space,
    dihedral,
    nearest_cells,
    pixel_vectors,
)

COPIES = ("exact", "turned or mirrored", "JPEG", "shifted by 1 px")
NEAR_COPIES = ("enlarged by 6 %", "shifted by 3 px", "turned by 15 degrees", "blended 60:40", "blurred", "tinted")
PLANTED = COPIES + NEAR_COPIES
JPEG_QUALITY = 75
PLANTED_SHARE = 0.025
FALSE_ALARM_RATE = 0.005  # in each space, if there are cells enough to calibrate it
DRAWS = 20
CLOSEST = 10
FEWEST_UNSEEN = 20


class PrivacyAudit(NamedTuple):
    """What the audit found.

    Attributes:
        summary: Ready for JSON: testable, reason (if not), the numbers of cells, and as lists of records comparison,
            copies, and power: for each space, and "any", and kind of planted copy, and "all" of `COPIES`, planted,
            caught, recall, low, high.
        comparison: One row a space and group ("all", then each class of the synthetic cells): n, share, low, high,
            distance_ratio, verdict.
        copies: One row a space, and "any": n, flagged, share, low, high, threshold (1 for "any"), calibration_cells,
            false_alarm_rate, expected_false_alarms, p_value, verdict.
        closest: For each space the ten pairs with the smallest relative distance: rank, synthetic (position), label,
            member (index of its row), person, distance, relative_distance, transform (index in `TRANSFORMS`, of the
            synthetic cell), shift (rows and columns), copy.
        distances: For each space and synthetic cell: label, nearest_member and nearest_non_member of the matched sets
            (means over the sets), distance and relative_distance to the nearest of all members, copy.
        calibration: For each space and non-member its relative_distance.

    Without cells to test against, comparison, copies, distances and calibration have no rows, and power is empty.
    """

    summary: dict[str, Any]
    comparison: pd.DataFrame
    copies: pd.DataFrame
    closest: pd.DataFrame
    distances: pd.DataFrame
    calibration: pd.DataFrame


def privacy_audit(
    synthetic: Cells, members: Cells, audit: Cells, embeddings: dict[str, Embedding], bootstrap: Bootstrap
) -> PrivacyAudit:
    """Compare synthetic cells with members and non-members, in pixels and in each space of `embeddings`.

    Distances are the least over the eight turns and mirrorings of a synthetic cell. A copy is what lies much closer to
    one member than to others nearby (Carlini et al. 2023, section 4.2): plain cells lie close to many.

    Args:
        synthetic: What is audited; the classes that occur make the groups.
        members: Training cells.
        audit: Non-members: cells of the same people that nothing was trained on.
        embeddings: By name, further spaces: functions from cells, uint8, (B, 3, S, S), to features (B, D).
        bootstrap: Of people. Its draws also match the sets and plant the copies.

    Returns:
        See `PrivacyAudit`. If there are fewer than 20 non-members, or all are of one person, it says that novelty
        cannot be tested and why, and still shows the closest pairs.

    Raises:
        UserError: no synthetic cell, too few members, cells of different sizes, a class that no member has, or
            features that are not finite or not one row a cell.
    """
    _check(synthetic, members, audit)
    reason = _not_testable(audit.table)
    if reason:
        audit = audit[:0]
    labels, member_table = synthetic.labels, members.table
    draws, matched_by = matched_draws(member_table, audit.table, DRAWS, bootstrap.rng)
    trained_on, unseen = members.pixels, audit.pixels
    planted, kinds = plant_copies(trained_on, PLANTED_SHARE, bootstrap.rng)
    queries = np.concatenate([synthetic.pixels, unseen, planted])
    n, calibrating = len(synthetic), len(unseen)
    people = pd.factorize(np.concatenate([members.people, audit.people]))[0]
    spaces = [Space("pixels", pixel_vectors, shifted=True)] + [Space(*named) for named in embeddings.items()]
    sets = Matched(draws, people, n)

    comparison, copies, power, closest, distances, calibration = [], [], [], [], [], []
    flagged = np.zeros(len(queries), dtype=bool)
    for searched in spaces:
        space = searched.name
        found = nearest_cells(queries, trained_on, unseen, searched, sets)
        flags = np.zeros(len(queries), dtype=bool)
        if not reason:
            groups = {name: (labels == name) | (name == "all") for name in compared_groups(pd.Series(labels))}
            for group, chosen in groups.items():
                row = _compare(found, chosen, bootstrap)
                comparison.append({"space": space, "group": group, "n": int(chosen.sum())} | row)
            threshold, rate = _threshold(found.relative[n : n + calibrating])
            flags = found.relative < threshold
            p_value = _chance(flags[:n], rate, calibrating)
            copies.append(
                {"space": space} | _copies(flags[:n], threshold, rate, calibrating, p_value, bootstrap.confidence)
            )
            power += _power(space, flags[n + calibrating :], kinds, bootstrap.confidence)
            calibration.append(pd.DataFrame({"space": space, "relative_distance": found.relative[n : n + calibrating]}))
            distances.append(
                pd.DataFrame(
                    {
                        "space": space,
                        "synthetic": np.arange(n),
                        "label": labels,
                        "nearest_member": found.to_member.mean(axis=0),
                        "nearest_non_member": found.to_unseen.mean(axis=0),
                        "distance": found.distance[:n],
                        "relative_distance": found.relative[:n],
                        "copy": flags[:n],
                    }
                )
            )
        closest.append(_closest(space, found, n, labels, member_table, flags))
        flagged |= flags
    if copies:
        rate = min(1.0, sum(row["false_alarm_rate"] for row in copies))
        p_value = min(1.0, len(copies) * min(row["p_value"] for row in copies))
        copies.append({"space": "any"} | _copies(flagged[:n], 1.0, rate, calibrating, p_value, bootstrap.confidence))
        power += _power("any", flagged[n + calibrating :], kinds, bootstrap.confidence)
    summary = {
        "testable": not reason,
        "reason": reason,
        "synthetic": n,
        "members": len(members),
        "non_members": calibrating,
        "matched_by": matched_by,
        "matched_cells": len(draws[0][0]) if draws else 0,
        "comparison": comparison,
        "copies": copies,
        "power": power,
    }
    table = pd.concat(closest, ignore_index=True)
    rows = [pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for parts in (distances, calibration)]
    return PrivacyAudit(summary, pd.DataFrame(comparison), pd.DataFrame(copies), table, *rows)


def matched_draws(
    members: pd.DataFrame, unseen: pd.DataFrame, draws: int, rng: np.random.Generator
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], str]:
    """Sets of members and non-members, as many of each from every person and class.

    Where a person has fewer of one than of the other in a class, that many are drawn of both; see `matched_strata`.

    Args:
        members: Columns person and label.
        unseen: The same of the non-members.
        draws: How many sets.
        rng: Source of the draws.

    Returns:
        Positions of members and of non-members for each draw, and what they are matched by. No draws if there are no
        non-members.
    """
    strata, matched_by = matched_strata(members, unseen)
    if not strata:
        return [], matched_by
    result = []
    for _ in range(draws):
        pairs = [
            (rng.choice(first, size, replace=False), rng.choice(second, size, replace=False))
            for first, second in strata
            for size in [min(len(first), len(second))]
        ]
        result.append((np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])))
    return result, matched_by


def matched_strata(
    members: pd.DataFrame, unseen: pd.DataFrame
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], str]:
    """Positions of members and of non-members of each person and class that has both, and what they are matched by.

    If that leaves out more than half of the non-members, as with names that tell no people, by class alone.
    """
    if unseen.empty:
        return [], "nothing"
    for columns in (["person", "label"], ["label"]):
        there = members.groupby(columns).indices
        strata = [
            (np.asarray(there[key]), np.asarray(rows))
            for key, rows in unseen.groupby(columns).indices.items()
            if key in there
        ]
        if 2 * sum(min(len(first), len(second)) for first, second in strata) >= len(unseen):
            break
    return strata, " and ".join(columns)


def plant_copies(
    members: NDArray[np.uint8], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Copies and near copies of random members for the audit to catch, and the kind of each, of `PLANTED` in turn.

    What an audit finds says something of what it would have found: copies that a generator makes are seldom exact.

    Args:
        members: uint8, (M, 3, S, S).
        share: Of the members; two of each kind at least, if there are as many members.
        rng: Which members, and how they are changed.
    """
    count = min(len(members), max(2 * len(PLANTED), round(share * len(members))))
    kinds = np.array(PLANTED)[np.arange(count) % len(PLANTED)]
    copies = members[np.sort(rng.choice(len(members), count, replace=False))].copy()
    for place, kind in enumerate(kinds):
        copies[place] = _changed(copies[place], kind, members, rng)
    return copies, kinds


def _changed(
    cell: NDArray[np.uint8], kind: str, members: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    match kind:
        case "turned or mirrored":
            turned: NDArray[np.uint8] = dihedral(cell)[rng.integers(1, len(TRANSFORMS))]
            return turned
        case "JPEG":
            file = io.BytesIO()
            Image.fromarray(cell.transpose(1, 2, 0)).save(file, "JPEG", quality=JPEG_QUALITY)
            return np.array(Image.open(file), dtype=np.uint8).transpose(2, 0, 1)
        case "shifted by 1 px":
            return _shifted(cell, SHIFTS[rng.integers(1, len(SHIFTS))])
        case "shifted by 3 px":
            row, column = SHIFTS[rng.integers(1, len(SHIFTS))]
            return _shifted(cell, (3 * row, 3 * column))
        case "enlarged by 6 %":
            return _mapped(cell, np.eye(2) / 1.06)
        case "turned by 15 degrees":
            cosine, sine = np.cos(np.pi / 12), np.sin(np.pi / 12)
            return _mapped(cell, np.array([[cosine, -sine], [sine, cosine]]))
        case "blended 60:40":
            other = members[rng.integers(len(members))]
            return _rounded(0.6 * cell + 0.4 * other)
        case "blurred":
            return _rounded(ndimage.gaussian_filter(cell.astype(float), (0, 1, 1), mode="nearest"))
        case "tinted":
            return _rounded(cell * rng.uniform(0.85, 1.0, (3, 1, 1)))
    return cell


def _shifted(cell: NDArray[np.uint8], shift: tuple[int, int]) -> NDArray[np.uint8]:
    edge = max(map(abs, shift))
    padded = np.pad(cell, ((0, 0), (edge, edge), (edge, edge)), mode="edge")
    return np.roll(padded, shift, axis=(1, 2))[:, edge:-edge, edge:-edge]


def _mapped(cell: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Each channel by a linear map about the middle, from places of the result to those of the cell."""
    middle = (np.array(cell.shape[1:]) - 1) / 2
    channels = [
        ndimage.affine_transform(channel.astype(float), matrix, middle - matrix @ middle, order=1, mode="nearest")
        for channel in cell
    ]
    return _rounded(np.stack(channels))


def _rounded(pixels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _check(synthetic: Cells, members: Cells, audit: Cells) -> None:
    sides = {"synthetic": synthetic, "training": members, "held-out": audit}
    shapes = {name: (len(cells), *cells.images.shape[1:]) for name, cells in sides.items()}
    if any(shape[1:] != shapes["training"][1:] for shape in shapes.values()):
        raise UserError(
            f"cells of different sizes cannot be compared: found {shapes}; generate the synthetic cells with a model "
            "trained on these cells",
            Remedy.TRAINING,
        )
    if len(synthetic) == 0 or len(members) <= NEIGHBOURS:
        raise UserError(
            f"the privacy audit needs a synthetic cell and over {NEIGHBOURS} training cells, found {len(synthetic)} "
            f"and {len(members)}; raise diffusion.sampling.count, or give more cells"
        )
    unknown = sorted({*synthetic.labels.tolist()} - {*members.labels.tolist()})
    if unknown:
        raise UserError(
            f"synthetic cells of class {unknown}, but training cells only of {sorted({*members.labels.tolist()})}; "
            "generate the synthetic cells with a model trained on these cells"
        )


def _not_testable(unseen_table: pd.DataFrame) -> str:
    """Why there is nothing to test against; empty if there is."""
    people = unseen_table["person"].nunique()
    if len(unseen_table) >= FEWEST_UNSEEN and people >= 2:
        return ""
    return (
        f"{len(unseen_table)} cells of {people} training people were kept out of the training, and at least "
        f"{FEWEST_UNSEEN} of two people are needed; raise data_processing.split.audit_fraction"
    )


def _compare(found: Nearest, chosen: NDArray[np.bool_], bootstrap: Bootstrap) -> dict[str, Any]:
    """Share and distance ratio of some synthetic cells.

    People are resampled, each with the synthetic cells whose nearest real cell is theirs.
    """
    wins, owner = found.wins[:, chosen].ravel(), found.owner[:, chosen].ravel()
    won, near = np.bincount(owner, wins), np.bincount(owner)
    won, near = won[near > 0], near[near > 0]
    low, high = 0.0, 1.0  # one person says nothing of others
    if len(near) > 1:
        weights = bootstrap.counts(len(near))
        low, high = bootstrap.interval(weights @ won / (weights @ near))
    to_member, to_unseen = found.to_member[:, chosen].mean(), found.to_unseen[:, chosen].mean()
    verdict = "no sign of memory"
    if low > 0.5:
        verdict = "nearer to members"
    elif high < 0.5:
        verdict = "nearer to non-members"
    return {
        "share": float(wins.mean()),
        "low": float(low),
        "high": float(high),
        "distance_ratio": float(to_member / to_unseen) if to_unseen > 0 else 1.0,
        "verdict": verdict,
    }


def _threshold(calibration: NDArray[np.float64]) -> tuple[float, float]:
    """The k-th smallest relative distance of non-members, and the chance k / (n + 1) of a new one below it."""
    k = max(1, int(FALSE_ALARM_RATE * (len(calibration) + 1)))
    return float(np.sort(calibration)[k - 1]), k / (len(calibration) + 1)


def _copies(
    flags: NDArray[np.bool_], threshold: float, rate: float, calibrating: int, p_value: float, confidence: float
) -> dict[str, Any]:
    return _counted(int(flags.sum()), len(flags), confidence) | {
        "threshold": threshold,
        "calibration_cells": calibrating,
        "false_alarm_rate": rate,
        "expected_false_alarms": len(flags) * rate,
        "p_value": p_value,
        "verdict": "copies found" if p_value < 1 - confidence else "no more than false alarms",
    }


def _chance(flags: NDArray[np.bool_], rate: float, calibrating: int) -> float:
    """The chance of as many false alarms: below the k-th of n, the rate of new ones is Beta(k, n + 1 - k)."""
    k = round(rate * (calibrating + 1))
    return float(betabinom(len(flags), k, calibrating + 1 - k).sf(flags.sum() - 1))


def _counted(number: int, n: int, confidence: float) -> dict[str, Any]:
    interval = binomtest(number, n).proportion_ci(confidence)
    return {"n": n, "flagged": number, "share": number / n, "low": float(interval.low), "high": float(interval.high)}


def _power(space: str, caught: NDArray[np.bool_], kinds: NDArray[np.str_], confidence: float) -> list[dict[str, Any]]:
    rows = []
    for kind in (*PLANTED, "all"):
        chosen = caught[np.isin(kinds, COPIES) if kind == "all" else kinds == kind]
        counted = _counted(int(chosen.sum()), len(chosen), confidence)
        rows.append(
            {
                "space": space,
                "kind": kind,
                "planted": counted["n"],
                "caught": counted["flagged"],
                "recall": counted["share"],
            }
            | {bound: counted[bound] for bound in ("low", "high")}
        )
    return rows


def _closest(
    space: str,
    found: Nearest,
    n: int,
    labels: NDArray[np.str_],
    member_table: pd.DataFrame,
    flags: NDArray[np.bool_],
) -> pd.DataFrame:
    order = np.argsort(found.relative[:n], kind="stable")[:CLOSEST]
    member = found.member[order]
    return pd.DataFrame(
        {
            "space": space,
            "rank": np.arange(1, len(order) + 1),
            "synthetic": order,
            "label": labels[order],
            "member": member_table.index[member],
            "person": member_table["person"].to_numpy()[member],
            "distance": found.distance[order],
            "relative_distance": found.relative[order],
            "transform": found.transform[order],
            "shift": [str(SHIFTS[step]) for step in found.shift[order]],
            "copy": flags[order],
        }
    )
