"""How well does the classifier know cells of unseen people?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from malaria_diffusion.questions.classification.steps import STEPS
from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict
from malaria_diffusion.questions.results import Results, records
from malaria_diffusion.questions.text import number, percent

FIT_MARGIN = 0.1
LEAST_LOSS = 1e-3  # nats; below it all is learned, and ultralytics rounds losses of validation to 1e-5
WORST_PEOPLE = 5


def headlines(results: Results) -> dict[str, Headline]:
    """Accuracy and calibration."""
    unseen, test = results.dataset["unseen"], results.dataset["splits"]["test"]
    rests_on = {"rests_on": f"{test['cells']:,} cells of {test['people']} people"}
    found = results["classification_metrics"]["unseen"]
    return {
        "accuracy": {"what": f"accuracy on {unseen}"} | rests_on | found["accuracy"],
        "calibration": {"what": f"expected calibration error on {unseen}"} | rests_on | found["ece"],
    }


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That the classifier is an optimal fit; its accuracy is a matter of the split."""
    fit = fit_of(results["yolo_history"])
    return [
        Claim(
            "The classifier is an optimal fit",
            "neither over- nor underfits, by its loss curves",
            f"validation loss {number(fit['best_val_loss'])} after epoch {fit['best_epoch']}, "
            f"{number(fit['last_val_loss'])} after {fit['epochs']}; means over a fifth of the epochs "
            f"{number(fit['lowest_val_mean'])} at best, {number(fit['last_val_mean'])} at last; training loss "
            f"{number(fit['last_train_loss'])}",
            judge_fit(fit),
        )
    ]


def context(results: Results) -> dict[str, Any]:
    """How many people there are, and those it does worst on."""
    people = results["unseen_people"][results["unseen_people"]["of"] == "person"]
    return {"people": len(people), "worst": records(people.head(WORST_PEOPLE))}


def fit_of(history: pd.DataFrame) -> dict[str, Any]:
    """What `judge_fit` judges.

    Args:
        history: One row an epoch of the classifier: epoch, train_loss, val_loss.
    """
    losses = history["val_loss"]
    # the least of many noisy losses lies below every one; means over a fifth of the epochs hardly do
    means = losses.rolling(max(1, round(len(losses) / 5))).mean()
    best = history.iloc[int(losses.to_numpy().argmin())]
    earlier, last = history.iloc[max(0, round(0.8 * len(history)) - 1)], history.iloc[-1]
    return {
        "epochs": int(last["epoch"]),
        "best_epoch": int(best["epoch"]),
        "best_val_loss": float(best["val_loss"]),
        "last_val_loss": float(last["val_loss"]),
        "lowest_val_mean": float(means.min()),
        "last_val_mean": float(means.iloc[-1]),
        "earlier_train_loss": float(earlier["train_loss"]),
        "last_train_loss": float(last["train_loss"]),
    }


def judge_fit(fit: dict[str, Any]) -> Judged:
    """Whether the classifier neither over- nor underfits, by its curves."""
    best, last = fit["lowest_val_mean"], fit["last_val_mean"]
    overfitted = (last - best) / max(best, LEAST_LOSS)
    falling = (fit["earlier_train_loss"] - fit["last_train_loss"]) / max(fit["earlier_train_loss"], LEAST_LOSS)
    if overfitted > FIT_MARGIN:
        return Judged(Verdict.REFUTED, f"overfits: validation losses average {best:.2g} at best and {last:.2g} at last")
    if falling > FIT_MARGIN:
        return Judged(Verdict.REFUTED, f"underfits: the training loss still fell by {percent(falling)}")
    return Judged(Verdict.NOT_DECIDED, "neither shows")


RULES = {
    "Optimal fit": "refuted if the validation loss of the last fifth of the epochs is on average over a tenth above "
    "that of the best as many (overfitted), or the training loss still fell by over a tenth in the last fifth of the "
    "epochs (underfitted), a tenth of 0.001 nats where losses are smaller; never confirmed, as no loss curve shows an "
    "optimum.",
}

DEFINITIONS = {
    "accuracy": Definition("Accuracy", "(TN + TP) / (TN + FP + FN + TP): the share of cells classified rightly."),
    "sensitivity": Definition("Sensitivity", "The share of the positive class's cells called so."),
    "specificity": Definition("Specificity", "The share of other cells not called of the positive class."),
    "f1": Definition("F1", "2 TP / (2 TP + FP + FN)."),
    "balanced_accuracy": Definition(
        "Balanced accuracy", "Mean over classes of the share of their cells classified rightly."
    ),
    "macro_f1": Definition("Macro F1", "Mean over classes of F1, each class against all others."),
    "auc": Definition(
        "AUC",
        "Area under the ROC curve: chance that a cell of the positive class gets a higher score than another. "
        "0.5 is chance.",
    ),
    "ece": Definition(
        "ECE",
        "Expected calibration error (Guo et al. 2017): mean gap between stated confidence and accuracy, 15 bins, "
        "less what chance adds. 0 is calibrated.",
    ),
    "threshold": Definition(
        "Threshold chosen on validation cells",
        "The probability from which on a cell is called of the positive class; maximises sensitivity + specificity "
        "on validation cells (Youden 1950).",
    ),
}


QUESTION = Question(
    name="classifier",
    asks="The classifier",
    folder=Path(__file__).parent,
    place=20,
    steps=STEPS,
    results=("classification_metrics", "unseen_people", "yolo_history"),
    figures=(
        "figure_3_classified",
        "figure_4_confusion",
        "figure_5_classifier_loss",
        "figure_reliability",
        "figure_mistakes",
    ),
    definitions=DEFINITIONS,
    rules=RULES,
    headlines=headlines,
    primary="accuracy",
    claims=claims,
    context=context,
)
