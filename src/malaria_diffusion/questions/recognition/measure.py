"""Whether a classifier of real cells calls synthetic ones what they were meant to be."""

from __future__ import annotations

import pandas as pd

from malaria_diffusion.statistics.comparison import compared_groups, in_group
from malaria_diffusion.statistics.jackknife import compare_shares

# by which the rate of synthetic cells recognised as intended may differ from that of real ones, chosen before the data
TOLERANCE = 0.05


def recognised_as_intended(real: pd.DataFrame, synthetic: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Share of cells classified as what they are or, if synthetic, were meant to be, and the difference of the two.

    Below, classes are mixed up or missed; far above, only textbook cells are drawn (mode collapse).

    Args:
        real: Predictions of unseen people's cells: label, predicted, person.
        synthetic: Those of as many synthetic ones: label, predicted.
        confidence: Of the intervals, over people for real cells and over images for synthetic ones.

    Returns:
        One row for each group (see `compared_groups`): group, real, synthetic, difference (synthetic - real), low,
        high, and verdict: "as real" if two one-sided tests (Schuirmann 1987) at the confidence find the difference
        within 5 points of zero; else "below" or "above" if the interval is; else "cannot tell".
    """
    rows = []
    for group in compared_groups(real["label"]):
        own, made = (table[in_group(table["label"], group)] for table in (real, synthetic))
        right_made, right_own = ((table["label"] == table["predicted"]).to_numpy() for table in (made, own))
        sides = right_made, right_own, own["person"].to_numpy(dtype=str)
        found = compare_shares(*sides, confidence)
        difference, (low, high) = found.difference
        below, above = compare_shares(*sides, 2 * confidence - 1).difference[1]
        verdict = "below" if high < 0 else "above" if low > 0 else "cannot tell"
        if below > -TOLERANCE and above < TOLERANCE:
            verdict = "as real"
        rates = {"real": found.people[0], "synthetic": found.images[0]}
        rows.append({"group": group} | rates | {"difference": difference, "low": low, "high": high, "verdict": verdict})
    return pd.DataFrame(rows)
