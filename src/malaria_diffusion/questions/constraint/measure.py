"""The share of synthetic cells that are no cell, beside the same share of unseen people's real cells.

Constraint is one of the seven criteria of the scorecard for synthetic medical data (Zamzmi et al. 2025,
doi 10.1038/s44172-025-00450-1): synthetic data should keep to what anatomy allows. What an outline may be is not
chosen by hand: the limits are quantiles of training people's cells, so that a few real cells lie beyond them too, and
their share is the floor.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.statistics.comparison import beside_floor, compared_groups, in_group
from malaria_diffusion.statistics.jackknife import compare_shares

TAIL = 0.005  # of training people's cells, beyond each limit
ANY = "any"
COLUMNS = [
    *("violation", "group", "limit", "value", "low", "high", "floor", "floor_low", "floor_high"),
    *("difference", "difference_low", "difference_high", "synthetic_cells", "real_cells", "people"),
]


class Limit(NamedTuple):
    """One way not to be a cell.

    Attributes:
        name: Of the violation.
        column: Of `outline.outlines`.
        above: Whether what lies above the limit violates it, else what lies below.
    """

    name: str
    column: str
    above: bool


LIMITS = (
    Limit("no foreground", "empty", True),
    Limit("several regions", "apart", True),
    Limit("hole", "hole", True),
    Limit("cut by the frame", "cut", True),
    Limit("too large", "area", True),
    Limit("too small", "area", False),
    Limit("not round", "roundness", False),
    Limit("not solid", "solidity", False),
)


def limits_of(typical: pd.DataFrame) -> dict[str, float]:
    """The limit of each violation.

    Args:
        typical: `outline.outlines` of training people's cells.

    Returns:
        By the violation's name a quantile, 0.5 % of those cells being beyond it at most; no foreground is a violation
        whatever they have. None where all outlines are the same, as of images that have no background: there is nothing
        to violate.
    """
    if typical.nunique().max() <= 1:
        return {}
    limits = {
        limit.name: float(typical[limit.column].astype(float).quantile(1 - TAIL if limit.above else TAIL))
        for limit in LIMITS
    }
    return limits | {"no foreground": 0.0}


def violations(outlines: pd.DataFrame, limits: dict[str, float]) -> pd.DataFrame:
    """By how much each cell is beyond each limit: one column a violation, 0 within; `outlines` of any cells.

    A cell without foreground has no outline that could violate another limit.
    """
    beyond = {}
    for limit in (limit for limit in LIMITS if limit.name in limits):
        over = outlines[limit.column].astype(float) - limits[limit.name]
        beyond[limit.name] = (over if limit.above else -over).clip(lower=0)
    table = pd.DataFrame(beyond, index=outlines.index)
    table.loc[outlines["empty"].to_numpy(dtype=bool), table.columns[1:]] = 0
    return table


def constraint_table(
    beyond: dict[str, pd.DataFrame], cells: dict[str, pd.DataFrame], limits: dict[str, float], confidence: float
) -> pd.DataFrame:
    """The share of cells that are beyond each limit, and beyond any.

    Args:
        beyond: For "real" (unseen) and "synthetic", see `violations`.
        cells: For each side one row a cell, with the columns label and, of real ones, person.
        limits: See `limits_of`.
        confidence: Of the intervals.

    Returns:
        One row a group (see `compared_groups`) and violation ("any" first): violation, group, limit (NaN of any), value
        (share of synthetic cells), low, high (Clopper & Pearson 1934: images are independent), floor (share of unseen
        people's cells), floor_low, floor_high (jackknife over people), difference (value less floor), difference_low,
        difference_high (of both intervals: Newcombe 1998, method 10; Zou & Donner 2008), synthetic_cells, real_cells
        and people. No row where there are no limits.
    """
    rows: list[dict[str, Any]] = []
    if not limits:
        return pd.DataFrame(columns=COLUMNS)
    for group in compared_groups(cells["real"]["label"]):
        chosen = {side: in_group(table["label"], group) for side, table in cells.items()}
        people = cells["real"].loc[chosen["real"], "person"].to_numpy(dtype=str)
        for name in (ANY, *limits):
            real, synthetic = (_found(beyond[side][chosen[side]], name) for side in ("real", "synthetic"))
            counts = {"synthetic_cells": len(synthetic), "real_cells": len(real), "people": len(set(people))}
            rows.append(
                {"violation": name, "group": group, "limit": limits.get(name, math.nan)}
                | beside_floor(compare_shares(synthetic, real, people, confidence))
                | counts
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _found(beyond: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    violated: NDArray[np.bool_] = (beyond if name == ANY else beyond[[name]]).gt(0).any(axis=1).to_numpy()
    return violated
