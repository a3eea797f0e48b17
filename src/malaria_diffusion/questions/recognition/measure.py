"""Whether a classifier of real cells calls synthetic ones what they were meant to be."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from malaria_diffusion.statistics.bootstrap import Bootstrap, Interval
from malaria_diffusion.statistics.comparison import compared_groups
from malaria_diffusion.statistics.jackknife import Jackknife, difference_interval

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
            low, high = _exactly(own, right, bootstrap.confidence)
            below, above = _exactly(own, right, 2 * bootstrap.confidence - 1)
        else:
            low, high = bootstrap.interval(drawn)
            below, above = np.quantile(drawn, [1 - bootstrap.confidence, bootstrap.confidence])
        verdict = "below" if high < 0 else "above" if low > 0 else "cannot tell"
        if below > -TOLERANCE and above < TOLERANCE:
            verdict = "as real"
        rows.append({"group": group} | rates | {"difference": difference, "low": low, "high": high, "verdict": verdict})
    return pd.DataFrame(rows)


def _exactly(real: pd.DataFrame, right: NDArray[np.bool_], confidence: float) -> Interval:
    """Of the difference, from Clopper and Pearson's interval of the images and the jackknife over people."""
    as_they_are = (real["label"] == real["predicted"]).to_numpy()

    def share(weights: NDArray[np.float64]) -> dict[str, float]:
        return {"share": float(weights @ as_they_are / weights.sum())}

    people = Jackknife(share, real["person"].to_numpy(dtype=str), confidence)
    exact = binomtest(int(right.sum()), len(right)).proportion_ci(confidence)
    of_real = people.share("share", np.ones(len(real), bool))
    return difference_interval(
        float(right.mean()), Interval(float(exact.low), float(exact.high)), people.values["share"], of_real
    )
