"""How well the classifier does, with intervals over people."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix


def classification_metrics(
    predictions: pd.DataFrame, positive_class: str, resamples: int, confidence: float, seed: int
) -> dict[str, dict[str, float]]:
    """Accuracy, sensitivity, specificity, F1 and AUC, each with a bootstrap interval over people.

    Cells of a person are alike, so people are resampled, not cells: an interval over cells would be too narrow.

    Args:
        predictions: One row a cell: label, predicted, person, and probability (of the positive class).
        positive_class: The class sensitivity is about.
        resamples: Bootstrap resamples.
        confidence: Of the intervals, e.g. 0.95.
        seed: Of the resamples.

    Returns:
        For each metric value, low and high. A resample in which a metric is not defined (one class only) does not
        count towards its interval.
    """
    truth = (predictions["label"] == positive_class).to_numpy()
    guess = (predictions["predicted"] == positive_class).to_numpy()
    correct = (predictions["label"] == predictions["predicted"]).to_numpy()
    rank = np.unique(predictions["probability"], return_inverse=True)[1]
    people, person = np.unique(predictions["person"].to_numpy(dtype=str), return_inverse=True)

    def weighted(weight: NDArray[np.float64]) -> dict[str, float]:
        tp, fn = weight[truth & guess].sum(), weight[truth & ~guess].sum()
        tn, fp = weight[~truth & ~guess].sum(), weight[~truth & guess].sum()
        return {
            "accuracy": float(np.average(correct, weights=weight)),
            "sensitivity": _ratio(tp, tp + fn),
            "specificity": _ratio(tn, tn + fp),
            "f1": _ratio(2 * tp, 2 * tp + fp + fn),
            "auc": _auc(rank, truth, weight),
        }

    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        drawn.append(weighted(times[person].astype(float)))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    frame = pd.DataFrame(drawn)
    return {
        name: dict(zip(("value", "low", "high"), (number, *frame[name].dropna().quantile(tails)), strict=True))
        for name, number in weighted(np.ones(len(truth))).items()
    }


def confusion(predictions: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Confusion matrix: rows are true classes, columns predicted ones."""
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=class_names)
    return pd.DataFrame(counts, index=class_names, columns=class_names)


def recognised_as_intended(predictions: pd.DataFrame) -> dict[str, Any]:
    """Share of cells classified as what they are (or, if synthetic, were meant to be), overall and by class."""
    right = predictions["label"] == predictions["predicted"]
    by_class = right.groupby(predictions["label"]).mean()
    return {"all": float(right.mean())} | {str(label): float(rate) for label, rate in by_class.items()}


def _auc(rank: NDArray[np.int64], truth: NDArray[np.bool_], weight: NDArray[np.float64]) -> float:
    """Weighted Mann-Whitney statistic, ties counting half; scikit-learn would sort anew for each of many weights."""
    positive = np.bincount(rank, weight * truth)
    negative = np.bincount(rank, weight * ~truth)
    below = negative.cumsum() - negative
    return _ratio((positive * (below + negative / 2)).sum(), positive.sum() * negative.sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
