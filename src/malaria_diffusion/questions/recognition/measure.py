"""Whether a classifier of real cells calls synthetic ones what they were meant to be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import compared_groups
from malaria_diffusion.statistics.jackknife import compare_shares

# by which the rate of synthetic cells recognised as intended may differ from that of real ones, chosen before the data
TOLERANCE = 0.05


def recognised_as_intended(real: pd.DataFrame, synthetic: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """Share of cells classified as what they are or, if synthetic, were meant to be, and the difference of the two.

    Below, classes are mixed up or missed; far above, only textbook cells are drawn (mode collapse).

    Args:
        real: Predictions of unseen people's cells: label, predicted, person.
        synthetic: Those of as many synthetic ones: label, predicted.
        bootstrap: Of people for real cells, of images for synthetic ones.

    Returns:
        One row for each group (see `compared_groups`): group, real, synthetic, difference (synthetic - real), low,
        high, and verdict: "as real" if two one-sided tests (Schuirmann 1987) at the confidence find the difference
        within 5 points of zero; else "below" or "above" if the interval is; else "cannot tell".
    """
    rows = []
    for group in compared_groups(real["label"]):
        own, made = (table[(group == "all") | (table["label"] == group)] for table in (real, synthetic))
        right = (made["label"] == made["predicted"]).to_numpy()
        of_person = (own["label"] == own["predicted"]).groupby(own["person"]).agg(["sum", "size"]).to_numpy()
        times = bootstrap.counts(len(of_person))
        found, cells = (times @ of_person).T
        drawn = bootstrap.rng.binomial(len(right), right.mean(), size=bootstrap.resamples) / len(right) - found / cells
        rates = {"real": float((own["label"] == own["predicted"]).mean()), "synthetic": float(right.mean())}
        difference = rates["synthetic"] - rates["real"]
        if {0.0, 1.0} & set(rates.values()):  # a bootstrap of what never varies has no width
            sides = (right, (own["label"] == own["predicted"]).to_numpy(), own["person"].to_numpy(dtype=str))
            low, high = compare_shares(*sides, bootstrap.confidence).difference[1]
            below, above = compare_shares(*sides, 2 * bootstrap.confidence - 1).difference[1]
        else:
            low, high = bootstrap.interval(drawn)
            below, above = np.quantile(drawn, [1 - bootstrap.confidence, bootstrap.confidence])
        verdict = "below" if high < 0 else "above" if low > 0 else "cannot tell"
        if below > -TOLERANCE and above < TOLERANCE:
            verdict = "as real"
        rows.append({"group": group} | rates | {"difference": difference, "low": low, "high": high, "verdict": verdict})
    return pd.DataFrame(rows)
