"""What synthetic cells are worth: classifiers with and without them, judged on people nobody trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.metrics import prediction_table
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.trainer import train_classifier
from malaria_diffusion.files import whole
from malaria_diffusion.questions.utility.trials import Arm, TrainingSet, Trial
from malaria_diffusion.statistics.bootstrap import Bootstrap

# the epoch, if the best is kept, is of so many; the learning rate rises in the first and falls in the others
EPOCHS = 4


def cells_per_epoch(steps: int, parameters: ClassifierParameters) -> int:
    """Cells an epoch, so that a training takes `steps` optimizer steps in all, to rounding."""
    return steps * parameters.batch_size // EPOCHS


def run_trial(
    trial: Trial,
    given: TrainingSet,
    cells: Cells,
    positive_class: str | None,
    parameters: ClassifierParameters,
    folder: Path,
    weights: Path | None,
) -> pd.DataFrame:
    """Train one classifier and judge the test cells; what is trained and judged already is read.

    Args:
        trial: Which.
        given: What it is trained on.
        cells: Of the study; those of the test people are judged.
        positive_class: See `prediction_table`.
        parameters: As of the validation's classifier; its epochs and seed are replaced.
        folder: Where trainings are kept.
        weights: Initial ones, the same in every arm; None: drawn from the trial's seed.

    Returns:
        See `prediction_table`.
    """
    parameters = parameters.model_copy(
        update={"epochs": EPOCHS, "warmup_epochs": min(parameters.warmup_epochs, 1.0), "seed": trial.seed}
    )
    checkpoint, _ = train_classifier(
        ClassifierData(given.cells, given.labels, cells.class_names, given.train_rows, given.val_rows),
        parameters,
        folder,
        weights,
    )
    test = cells.part("test")
    asked = test.table[["label", "sha256"]].to_csv() + f"{cells.class_names} {positive_class} {checkpoint.stem}"
    judged = checkpoint.parents[1] / f"judged-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.parquet"
    if judged.exists():
        return pd.read_parquet(judged)
    probabilities = predict(checkpoint, test.pixels, device=parameters.device)
    predictions = prediction_table(test, probabilities, cells.class_names, positive_class)
    with whole(judged) as beside:
        predictions.to_parquet(beside)
    return predictions


def utility_table(results: Mapping[Trial, pd.DataFrame], bootstrap: Bootstrap) -> pd.DataFrame:
    """Accuracy of every arm and what it gains over real cells alone, with intervals over people and seeds.

    People are resampled alike for every arm, and so are the seeds where there are several, so that a gain is a paired
    difference.

    Args:
        results: Of every trial, see `run_trial`; all judge the same cells.
        bootstrap: Of people and of seeds.

    Returns:
        One row an arm and share: arm, share, seeds, accuracy (mean over seeds), low, high, lowest and highest (of the
        seeds), recall_CLASS (mean over seeds); gain over real cells alone with the same share (for synthetic cells
        alone: with all people), gain_low and gain_high.
    """
    seeds = sorted({trial.seed for trial in results})
    first = next(iter(results.values()))
    people, person = np.unique(first["person"].to_numpy(dtype=str), return_inverse=True)
    counts = np.bincount(person, minlength=len(people))
    drawn = bootstrap.counts(len(people))
    of_seeds = bootstrap.counts(len(seeds)) / len(seeds)
    weights = np.concatenate([np.ones((1, len(people)), int), drawn])  # the first is the sample itself
    seed_weights = np.concatenate([np.full((1, len(seeds)), 1 / len(seeds)), of_seeds])

    def accuracies(arm: Arm, share: float) -> NDArray[np.float64]:
        """(1 + resamples,)"""
        right = [_right(results[Trial(arm, share, seed)]) for seed in seeds]
        by_person = np.stack([np.bincount(person, values, minlength=len(people)) for values in right])
        each = weights @ by_person.T / (weights @ counts)[:, None]
        mean: NDArray[np.float64] = (each * seed_weights).sum(axis=1)
        return mean

    rows = []
    for arm, share in sorted(
        {(trial.arm, trial.share) for trial in results}, key=lambda key: (list(Arm).index(key[0]), key[1])
    ):
        found = accuracies(arm, share)
        gain = found - accuracies(Arm.REAL, share or 1.0)
        each = [_right(results[Trial(arm, share, seed)]).mean() for seed in seeds]
        low, high = bootstrap.interval(found[1:])
        gain_low, gain_high = bootstrap.interval(gain[1:])
        row = {"arm": arm.value, "share": share, "seeds": len(seeds), "accuracy": found[0], "low": low, "high": high}
        row |= {"lowest": min(each), "highest": max(each)}
        for label in sorted(first["label"].unique()):
            recalls = [
                _right(table)[(table["label"] == label).to_numpy()].mean()
                for table in (results[Trial(arm, share, seed)] for seed in seeds)
            ]
            row[f"recall_{label}"] = float(np.mean(recalls))
        rows.append(row | {"gain": gain[0], "gain_low": gain_low, "gain_high": gain_high})
    return pd.DataFrame(rows)


def _right(predictions: pd.DataFrame) -> NDArray[np.bool_]:
    return (predictions["label"] == predictions["predicted"]).to_numpy()
