"""How well the classifier does, with intervals over people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, roc_curve

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.jackknife import Jackknife

CALIBRATION_BINS = 15


def prediction_table(
    cells: Cells, probabilities: NDArray[np.floating], class_names: Sequence[str], positive_class: str | None
) -> pd.DataFrame:
    """What a classifier says of some cells.

    Args:
        cells: Which, N.
        probabilities: (N, classes).
        class_names: In the order of the class indices.
        positive_class: See `classification_metrics`.

    Returns:
        One row a cell: label, person and smear (empty where unknown), row (in the whole set), predicted, probability
        (of the positive class, without one of the cell's own) and confidence (of the predicted one).
    """
    chosen = cells.table.reindex(columns=["label", "person", "smear"], fill_value="").fillna("")
    asked = chosen["label"] if positive_class is None else pd.Series(positive_class, chosen.index)
    column = asked.map(list(class_names).index).to_numpy(dtype=int)
    return chosen.assign(
        row=cells.places,
        predicted=np.array(class_names)[probabilities.argmax(axis=1)],
        probability=probabilities[np.arange(len(cells)), column],
        confidence=probabilities.max(axis=1),
    ).reset_index(drop=True)


def classification_metrics(
    predictions: pd.DataFrame, positive_class: str | None, confidence: float
) -> dict[str, dict[str, float]]:
    """Accuracy, sensitivity, specificity, F1, AUC and calibration, each with an interval over people.

    Without a positive class accuracy, balanced accuracy (mean over classes of the share found), macro F1 (mean over
    classes) and calibration.

    Cells of a person are alike, so people are left out, not cells: an interval over cells would be too narrow.

    Args:
        predictions: One row a cell: label, predicted, person, probability (of the positive class) and confidence (the
            probability of the predicted class).
        positive_class: The class sensitivity is about, if any.
        confidence: Of the intervals, see `Jackknife`.

    Returns:
        For each metric value, low and high; "ece" is the expected calibration error (Guo et al. 2017) over 15 equal
        bins of the confidence, less its bias: chance alone makes it positive.

    Raises:
        UserError: only one class is there to judge by.
    """
    label, predicted = (predictions[column].to_numpy(dtype=str) for column in ("label", "predicted"))
    truth, guess = label == positive_class, predicted == positive_class
    names, codes = np.unique(np.concatenate([label, predicted]), return_inverse=True)
    pair = codes[: len(label)] * len(names) + codes[len(label) :]
    correct = (predictions["label"] == predictions["predicted"]).to_numpy()
    rank = np.unique(predictions["probability"], return_inverse=True)[1]
    if len(set(label)) < 2 or (positive_class is not None and not truth.any()):
        raise UserError(
            f"the {len(truth)} cells to judge the classifier by are {predictions['label'].unique().tolist()}; expected "
            f"{positive_class or 'a class'!r} and another class: raise data_processing.split.test_fraction"
        )
    surplus = correct - predictions["confidence"].to_numpy(dtype=float)
    place = _confidence_bin(predictions["confidence"])

    def weighted(weight: NDArray[np.float64]) -> dict[str, float]:
        sure = float(np.abs(np.bincount(place, weight * surplus, CALIBRATION_BINS)).sum() / weight.sum())
        accuracy = float(np.average(correct, weights=weight))
        if positive_class is None:
            counts = np.bincount(pair, weight, len(names) ** 2).reshape(len(names), len(names))
            return {"accuracy": accuracy} | _macro(counts) | {"ece": sure}
        tp, fn = weight[truth & guess].sum(), weight[truth & ~guess].sum()
        tn, fp = weight[~truth & ~guess].sum(), weight[~truth & guess].sum()
        return {
            "accuracy": accuracy,
            "sensitivity": _ratio(tp, tp + fn),
            "specificity": _ratio(tn, tn + fp),
            "f1": _ratio(2 * tp, 2 * tp + fp + fn),
            "auc": _auc(rank, truth, weight),
            "ece": sure,
        }

    jackknife = Jackknife(weighted, predictions["person"].to_numpy(dtype=str), confidence)
    rests_on = {"sensitivity": truth, "specificity": ~truth, "f1": truth, "auc": truth}
    found = {}
    for name, value in jackknife.values.items():
        if name == "ece":
            value, interval = jackknife.error(name)
        else:
            interval = jackknife.share(name, rests_on.get(name))
        found[name] = {"value": value} | interval._asdict()
    return found


def choose_threshold(predictions: pd.DataFrame, positive_class: str) -> float:
    """The probability from which on a cell is called positive, chosen by validation cells: Youden's index is largest.

    That index (sensitivity + specificity - 1, Youden 1950) does not depend on how many cells are positive, which
    differs between groups of people. Of equals the threshold nearest to one half is taken.

    Args:
        predictions: Of validation cells: label and probability (of the positive class).
        positive_class: See `classification_metrics`.
    """
    truth = predictions["label"] == positive_class
    false_alarms, found, thresholds = roc_curve(truth, predictions["probability"], drop_intermediate=False)
    youden = found - false_alarms
    best = thresholds[youden >= youden.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def at_threshold(predictions: pd.DataFrame, positive_class: str, threshold: float | pd.Series) -> pd.DataFrame:
    """The predictions of two classes with another threshold than one half, one for all cells or one for each."""
    (negative,) = set(predictions["label"]) - {positive_class}
    positive = predictions["probability"] >= threshold
    return predictions.assign(predicted=np.where(positive, positive_class, negative))


def reliability(predictions: pd.DataFrame) -> pd.DataFrame:
    """How often the classifier is right, by how sure it says it is.

    Returns:
        One row for each of 15 equal bins of the confidence that holds cells: confidence and accuracy (means), cells and
        people.
    """
    right = (predictions["label"] == predictions["predicted"]).rename("accuracy")
    place = _confidence_bin(predictions["confidence"])
    return (
        predictions[["confidence", "person"]]
        .assign(accuracy=right)
        .groupby(place)
        .agg(
            confidence=("confidence", "mean"),
            accuracy=("accuracy", "mean"),
            cells=("person", "size"),
            people=("person", "nunique"),
        )
        .reset_index(drop=True)
    )


def accuracy_of_groups(predictions: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Accuracy of each person, and of each slide as one microscope saw it, the worst first.

    Args:
        predictions: See `prediction_table`.
        confidence: Of the intervals (Clopper-Pearson, over the group's cells).

    Returns:
        One row a group: its name, cells, errors, accuracy, low, high, and of ("person", then "smear"). Cells of an
        unknown person or slide are left out.
    """
    right = predictions["label"] == predictions["predicted"]
    return pd.concat(
        [_accuracy_by(right, predictions[of], confidence).assign(of=of) for of in ("person", "smear")],
        ignore_index=True,
    )


def confusion(predictions: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """Confusion matrix: rows are true classes, columns predicted ones."""
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=class_names)
    return pd.DataFrame(counts, index=class_names, columns=class_names)


def _accuracy_by(right: pd.Series, group: pd.Series, confidence: float) -> pd.DataFrame:
    table = right.groupby(group.rename("name")).agg(cells="size", right="sum", accuracy="mean")
    table = table.drop(index="", errors="ignore")
    intervals = [
        binomtest(int(row.right), int(row.cells)).proportion_ci(confidence) for row in table.itertuples(index=False)
    ]
    table = table.assign(
        errors=table["cells"] - table["right"],
        low=[interval.low for interval in intervals],
        high=[interval.high for interval in intervals],
    )
    columns = ["cells", "errors", "accuracy", "low", "high"]
    ranked: pd.DataFrame = table[columns].sort_values(["accuracy", "cells"], ascending=[True, False]).reset_index()
    return ranked


def _confidence_bin(confidence: pd.Series) -> NDArray[np.int64]:
    """The bins of `torchmetrics`, closed below: 1 belongs to the last."""
    place = (confidence.to_numpy(dtype=float) * CALIBRATION_BINS).astype(np.int64)
    return np.minimum(place, CALIBRATION_BINS - 1)


def _auc(rank: NDArray[np.int64], truth: NDArray[np.bool_], weight: NDArray[np.float64]) -> float:
    """Weighted Mann-Whitney statistic, ties counting half; scikit-learn would sort anew for each of many weights."""
    positive = np.bincount(rank, weight * truth)
    negative = np.bincount(rank, weight * ~truth)
    below = negative.cumsum() - negative
    return _ratio((positive * (below + negative / 2)).sum(), positive.sum() * negative.sum())


def _macro(counts: NDArray[np.number]) -> dict[str, float]:
    """Means over classes, of a weighted confusion matrix; a class that a resample lacks does not count."""
    right, true, called = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    there, either = true > 0, true + called > 0
    return {
        "balanced_accuracy": float((right[there] / true[there]).mean()),
        "macro_f1": float((2 * right[either] / (true + called)[either]).mean()),
    }


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
