"""Which cells the classifier gets wrong, and which labels it has reason to doubt."""

from __future__ import annotations

import pandas as pd


def confident_mistakes(predictions: pd.DataFrame, number: int) -> pd.DataFrame:
    """The `number` wrong answers that the classifier was surest of, surest first.

    Args:
        predictions: One row a cell: label, predicted, confidence (of the predicted class).
        number: At most so many.
    """
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    return wrong.sort_values("confidence", ascending=False, kind="stable").head(number)


def disputed_labels(predictions: pd.DataFrame) -> pd.DataFrame:
    """Cells whose label is confidently disputed, for a person to review; nothing is relabelled.

    The rule is that of confident learning (Northcutt et al. 2021, eq. 1): a cell is disputed if another class is at
    least as probable as that class is, on average, for the cells labelled with it. Only predictions of classifiers that
    have not seen the cell's person mean anything here.

    Args:
        predictions: One row a cell: label, predicted, confidence, and others that are kept.

    Returns:
        The disputed cells, the surest dispute first.
    """
    # of a cell called something else than its label, at most 1 - confidence is left for the label
    right = predictions["label"] == predictions["predicted"]
    own = predictions["confidence"].where(right, 1 - predictions["confidence"])
    usual = own.groupby(predictions["label"]).mean()
    disputed = ~right & (predictions["confidence"] >= predictions["predicted"].map(usual))
    return predictions[disputed].sort_values("confidence", ascending=False, kind="stable")
