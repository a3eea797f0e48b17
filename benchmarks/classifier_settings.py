"""Which settings make the best classifier of unseen people? Chosen without the people that test it.

    kedro run --env paper --pipeline data_processing --params data_processing.packing.size=128
    python benchmarks/classifier_settings.py --weights yolov8n-cls.pt --json classifier_settings.json

The people of the split's train and val parts are dealt into folds; for each fold a classifier learns from the other
people (an eighth of them validate) and classifies the fold's cells, as they are and as the mean over their eight
mirrorings and turns, and, of several seeds, as the mean over their networks too. Differences are to the first setting's
one view of the same cells; intervals are bootstraps over people and seeds (of three seeds somewhat narrow). The split's
test people take no part. A training that is finished is not repeated, a killed one goes on.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.cross_validation import Fold, person_folds
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.predictor import load_predictor
from malaria_diffusion.classifier.trainer import train_classifier
from malaria_diffusion.files import whole, write_array
from malaria_diffusion.statistics.bootstrap import bootstrap_counts

COMMON = {
    "image_size": 64,
    "epochs": 8,
    "batch_size": 64,
    "optimizer": "AdamW",
    "learning_rate": 0.001,
    "momentum": 0.9,
    "weight_decay": 0.05,
    "warmup_epochs": 1,
    "final_learning_rate_fraction": 0.01,
    "kept_epoch": "last",
    "flips": True,
    "colour": 0.0,
    "test_time_augmentation": False,
    "precision": "auto",
    "device": "auto",
}
SCRATCH = "from scratch"
PAPERS_SGD = {"optimizer": "SGD", "batch_size": 16, "learning_rate": 0.01, "momentum": 0.937, "weight_decay": 0.0005}
SETTINGS: Mapping[str, dict[str, Any]] = {
    "AdamW, batch 64": {},
    "SGD, batch 16": PAPERS_SGD,
    "its best epoch": {"kept_epoch": "best"},
    "tinted, 0.1": {"colour": 0.1},
    "96 px": {"image_size": 96},
    "128 px": {"image_size": 128},
    "96 px, tinted, 0.1": {"image_size": 96, "colour": 0.1},
    "128 px, tinted, 0.1": {"image_size": 128, "colour": 0.1},
    "16 epochs": {"epochs": 16},
    SCRATCH: {},
}
ONE, EIGHT, TOGETHER = "one view", "eight views", "eight views, all seeds together"


def main() -> None:
    """Train every setting on every fold and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=Path("data/03_primary/cells.npy"))
    parser.add_argument("--table", type=Path, default=Path("data/03_primary/cell_table.parquet"))
    parser.add_argument("--work", type=Path, default=Path("data/02_intermediate/classifier_settings"))
    parser.add_argument("--weights", type=Path, help="initial weights; without, all start from scratch")
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="the first is compared to"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--folds-used", type=int, help="judge only the first so many folds' people")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.weights is None and SCRATCH in arguments.settings:
        parser.error(f"{SCRATCH!r} differs from other settings only with --weights")
    cells, table = np.load(arguments.cells, mmap_mode="r"), pd.read_parquet(arguments.table)
    inside = np.flatnonzero(table["split"] != "test")
    folds = person_folds(table.iloc[inside], arguments.folds, seed=0)[: arguments.folds_used]
    folds = [Fold(*(inside[rows] for rows in fold)) for fold in folds]
    judged = table.iloc[np.concatenate([fold.test for fold in folds])]
    people, labels = judged["person"].to_numpy(dtype=str), judged["label"].map(classes(table).index).to_numpy()
    right: dict[tuple[str, str], NDArray[np.bool_]] = {}  # (seeds, N)
    for name in tqdm(arguments.settings, desc="settings", unit="setting"):
        said = [classify(name, seed, cells, table, folds, arguments) for seed in range(arguments.seeds)]
        for views in (ONE, EIGHT):
            right[name, views] = np.array([of_seed[views].argmax(axis=1) == labels for of_seed in said])
        if arguments.seeds > 1:
            together = np.mean([of_seed[EIGHT] for of_seed in said], axis=0)
            right[name, TOGETHER] = together.argmax(axis=1)[None] == labels
    results = compare(right, people, arguments.resamples)
    print(f"{len(people)} cells of {len(np.unique(people))} people, packed at {cells.shape[-1]} px")
    print(results.to_string(index=False, float_format="{:.4f}".format))
    wrong = ~np.concatenate([right[name, EIGHT] for name in arguments.settings])
    any_wrong, all_wrong = wrong.any(axis=0).sum(), wrong.all(axis=0).sum()
    print(f"By eight views, {any_wrong} cells are wrong by any of {len(wrong)} networks a fold, {all_wrong} by all")
    if arguments.json:
        results.to_json(arguments.json, orient="records", indent=1)


def classify(
    name: str,
    seed: int,
    cells: NDArray[np.uint8],
    table: pd.DataFrame,
    folds: list[Fold],
    arguments: argparse.Namespace,
) -> dict[str, NDArray[np.float32]]:
    """Class probabilities of each judged cell (N, classes), in the order of the folds, by one view and by eight."""
    parameters = ClassifierParameters(**COMMON | SETTINGS[name] | {"seed": seed})
    weights = None if name == SCRATCH else arguments.weights
    names = classes(table)
    labels = table["label"].map(names.index).to_numpy(np.int64)
    found: dict[str, list[NDArray[np.float32]]] = {ONE: [], EIGHT: []}
    for fold in folds:
        digest = hashlib.sha256(np.ascontiguousarray(cells[fold.test])).hexdigest()[:16]
        checkpoint, _ = train_classifier(
            ClassifierData(cells, labels, names, fold.train, fold.val), parameters, arguments.work, weights
        )
        for views, parts in found.items():
            judged = checkpoint.with_name(f"{checkpoint.stem}, {views}, {digest}.npy")
            if not judged.is_file():
                predict = load_predictor(checkpoint, device=parameters.device, test_time_augmentation=views == EIGHT)
                with whole(judged) as beside:
                    write_array(beside, predict(cells[fold.test]))
            parts.append(np.load(judged))
    return {views: np.concatenate(parts) for views, parts in found.items()}


def classes(table: pd.DataFrame) -> list[str]:
    """Names of the classes, in the order of their indices."""
    return sorted(table["label"].unique())


def compare(right: dict[tuple[str, str], NDArray[np.bool_]], people: NDArray[np.str_], resamples: int) -> pd.DataFrame:
    """Accuracy of each setting (mean over seeds), and its difference to the first one's, with 95 % intervals."""
    units, unit = np.unique(people, return_inverse=True)
    rng = np.random.default_rng(0)
    drawn = np.vstack([np.ones(len(units), int), bootstrap_counts(len(units), resamples, rng)])[:, unit]
    accuracies = {}  # (1 + resamples,), the first of the sample itself
    for key, rights in right.items():
        seeds = np.vstack([np.ones(len(rights), int), bootstrap_counts(len(rights), resamples, rng)]) / len(rights)
        accuracies[key] = ((drawn @ rights.T) / drawn.sum(axis=1, keepdims=True) * seeds).sum(axis=1)
    base = next(iter(accuracies.values()))
    rows = []
    for (name, views), found in accuracies.items():
        of_seeds = right[name, views].mean(axis=1)
        row = {"setting": name, "views": views, "lowest_seed": of_seeds.min(), "highest_seed": of_seeds.max()}
        for what, values in (("accuracy", found), ("difference", found - base)):
            low, high = np.quantile(values[1:], (0.025, 0.975))
            row |= {what: values[0], f"{what}_low": low, f"{what}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
