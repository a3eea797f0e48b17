"""What synthetic cells are worth: classifiers with and without them, judged on people nobody trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.classifier.config import ClassifierParameters, Recipe
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.trainer import train_classifier
from malaria_diffusion.files import locked, whole, write_array
from malaria_diffusion.questions.utility.config import Arm
from malaria_diffusion.questions.utility.trials import TrainingSet, Trial
from malaria_diffusion.statistics.bootstrap import Interval
from malaria_diffusion.statistics.jackknife import half_width, left_out_variance

EPOCHS = 4  # the learning rate rises in the first and falls in the others
TINTS = 0.1
FEWEST_SEEDS = 10  # of fewer, a spread between seeds is not known well enough for an interval


def cells_shown(steps: int, parameters: ClassifierParameters) -> int:
    """Cells that are shown in so many optimizer steps, to a whole number of batches an epoch."""
    return steps // EPOCHS * parameters.batch_size * EPOCHS


def run_trial(
    trial: Trial, given: TrainingSet, class_names: list[str], test: NDArray[np.uint8], recipe: Recipe
) -> NDArray[np.float32]:
    """Train one classifier and ask it about the test cells; what is trained and answered already is read.

    Args:
        trial: Which.
        given: What it is trained on.
        class_names: In the order of the class indices.
        test: Cells of people nobody trained on, uint8, (N, 3, S, S).
        recipe: As of the validation's classifier, but for its epochs and seed, mirrorings and turns and tints, which
            all arms have, and the epoch that is kept: the last, as people whom a hospital has not cannot choose. The
            same initial weights in every arm; without any they are drawn from the trial's seed.

    Returns:
        Class probabilities, (N, classes).
    """
    parameters = recipe.parameters
    parameters = parameters.model_copy(
        update={
            "epochs": EPOCHS,
            "warmup_epochs": min(parameters.warmup_epochs, 1.0),
            "seed": trial.seed,
            "flips": True,
            "colour": max(parameters.colour, TINTS),
            "kept_epoch": "last",
        }
    )
    rows = given.train_rows
    checkpoint, _ = train_classifier(
        ClassifierData(given.cells, given.labels, class_names, rows, given.val_rows, len(rows) // EPOCHS),
        *recipe._replace(parameters=parameters),
    )
    asked = hashlib.sha256(test.tobytes()).hexdigest()[:16]
    answers = checkpoint.parents[1] / f"{checkpoint.stem}-{asked}.npy"
    with locked(answers):  # two trials may be given the same cells, and be asked side by side
        if answers.exists():
            known: NDArray[np.float32] = np.load(answers)
            return known
        probabilities = predict(checkpoint, test, device=parameters.device)
        with whole(answers) as beside:
            write_array(beside, probabilities)
        return probabilities


def utility_table(
    results: Mapping[Trial, pd.DataFrame], given: Mapping[Trial, TrainingSet], confidence: float
) -> pd.DataFrame:
    """Accuracy of every arm and what it gains over the same without synthetic cells.

    Intervals are for new people and new seeds, which are crossed: the variance over people (jackknife of the mean over
    seeds) and that over seeds are added, which counts what is neither twice and is conservative (Owen 2007), with
    Student's t by Satterthwaite's degrees of freedom. Of fewer than ten seeds none is stated: NaN.

    Args:
        results: Of every trial what it says of the test cells, see `prediction_table`.
        given: What each was trained on.
        confidence: Of the intervals.

    Returns:
        One row a number of steps, arm and share: steps, arm, share, seeds, real_cells and synthetic_cells (different
        ones that were shown, means over seeds), accuracy (mean over seeds), low, high, lowest and highest (of the
        seeds), recall_CLASS (mean over seeds); gain over `Trial.reference`, gain_low and gain_high.
    """
    seeds = sorted({trial.seed for trial in results})
    first = next(iter(results.values()))
    rows = []
    for steps, arm, share in sorted(
        {(trial.steps, trial.arm, trial.share) for trial in results},
        key=lambda key: (key[0], list(Arm).index(key[1]), key[2]),
    ):
        trials = [Trial(arm, share, seed, steps) for seed in seeds]
        right = np.stack([_right(results[trial]) for trial in trials]).astype(float)
        before = np.stack([_right(results[trial.reference]) for trial in trials]).astype(float)
        low, high = crossed_interval(right, first["person"].to_numpy(dtype=str), confidence)
        gain_low, gain_high = crossed_interval(right - before, first["person"].to_numpy(dtype=str), confidence)
        of_class = {
            f"recall_{label}": float(right[:, (first["label"] == label).to_numpy()].mean())
            for label in sorted(first["label"].unique())
        }
        rows.append(
            {
                "steps": steps,
                "arm": arm.value,
                "share": share,
                "seeds": len(seeds),
                "real_cells": float(np.mean([given[trial].real for trial in trials])),
                "synthetic_cells": float(np.mean([given[trial].synthetic for trial in trials])),
                "accuracy": float(right.mean()),
                "low": low,
                "high": high,
                "lowest": float(right.mean(axis=1).min()),
                "highest": float(right.mean(axis=1).max()),
                **of_class,
                "gain": float((right - before).mean()),
                "gain_low": gain_low,
                "gain_high": gain_high,
            }
        )
    return pd.DataFrame(rows)


def crossed_interval(values: NDArray[np.float64], people: NDArray[np.str_], confidence: float) -> Interval:
    """Of the mean of values, (seeds, cells), over new people and new seeds; see `utility_table`."""
    names, person = np.unique(people, return_inverse=True)
    seeds, number = len(values), len(names)
    if seeds < FEWEST_SEEDS or number < 2:
        return Interval(float("nan"), float("nan"))
    cells, sums = np.bincount(person), np.bincount(person, values.mean(axis=0))
    without = (sums.sum() - sums) / (cells.sum() - cells)
    of_seeds = float(values.mean(axis=1).var(ddof=1)) / seeds
    reach = half_width([(left_out_variance(without), number - 1), (of_seeds, seeds - 1)], confidence)
    mean = float(values.mean())
    return Interval(mean - reach, mean + reach)


def _right(predictions: pd.DataFrame) -> NDArray[np.bool_]:
    return (predictions["label"] == predictions["predicted"]).to_numpy()
