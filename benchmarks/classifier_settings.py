"""Which settings make the best classifier of unseen people? Chosen without the people that test it.

    kedro run --env paper --pipeline data_processing --params data_processing.packing.size=128
    python benchmarks/classifier_settings.py --weights yolov8n-cls.pt --json classifier_settings.json

The people of the split's train and val parts are dealt into folds; for each fold a classifier learns from the other
people (an eighth of them validate) and classifies the fold's cells, as they are and as the mean over their eight
mirrorings and turns. Several settings also answer together, by the mean of their probabilities. Differences are to the
first setting's one view of the same cells, intervals are bootstraps over people. The split's test people take no part.
A training that is finished is not repeated, a killed one goes on.
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

from malaria_diffusion.evaluation.bootstrap import bootstrap_counts
from malaria_diffusion.evaluation.classifier import load_predictor, train_classifier
from malaria_diffusion.evaluation.folds import Fold, person_folds
from malaria_diffusion.evaluation.parameters import ClassifierParameters

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
    "seed": 0,
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
    "128 px, tinted, 0.1, seed 1": {"image_size": 128, "colour": 0.1, "seed": 1},
    "128 px, tinted, 0.1, seed 2": {"image_size": 128, "colour": 0.1, "seed": 2},
    "16 epochs": {"epochs": 16},
    SCRATCH: {},
}
VIEWS = ONE, EIGHT = "one view", "eight views"
TOGETHER = "all together"


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
    said = {
        name: classify(name, cells, table, folds, arguments)
        for name in tqdm(arguments.settings, desc="settings", unit="setting")
    }
    if len(said) > 1:
        said[TOGETHER] = {views: np.mean([of_views[views] for of_views in said.values()], axis=0) for views in VIEWS}
    judged = table.iloc[np.concatenate([fold.test for fold in folds])]
    people, labels = judged["person"].to_numpy(dtype=str), judged["label"].map(classes(table).index).to_numpy()
    right = {
        name: {views: probabilities.argmax(axis=1) == labels for views, probabilities in of_views.items()}
        for name, of_views in said.items()
    }
    results = compare(right, people, arguments.resamples)
    print(f"{len(people)} cells of {len(np.unique(people))} people, packed at {cells.shape[-1]} px")
    print(results.to_string(index=False, float_format="{:.4f}".format))
    wrong = np.array([~right[name][EIGHT] for name in arguments.settings])
    print(f"By eight views, {wrong.any(axis=0).sum()} cells are wrong by any setting, {wrong.all(axis=0).sum()} by all")
    if arguments.json:
        results.to_json(arguments.json, orient="records", indent=1)


def classify(
    name: str, cells: NDArray[np.uint8], table: pd.DataFrame, folds: list[Fold], arguments: argparse.Namespace
) -> dict[str, NDArray[np.float32]]:
    """Class probabilities of each judged cell (N, classes), in the order of the folds, by one view and by eight."""
    parameters = ClassifierParameters(**COMMON | SETTINGS[name])
    weights = None if name == SCRATCH else arguments.weights
    names = classes(table)
    labels = table["label"].map(names.index).to_numpy(np.int64)
    found: dict[str, list[NDArray[np.float32]]] = {views: [] for views in VIEWS}
    for fold in folds:
        digest = hashlib.sha256(np.ascontiguousarray(cells[fold.test])).hexdigest()[:16]
        checkpoint, _ = train_classifier(
            cells, labels, names, fold.train, fold.val, parameters, arguments.work, weights
        )
        for views, parts in found.items():
            judged = checkpoint.with_name(f"{checkpoint.stem}, {views}, {digest}.npy")
            if not judged.is_file():
                predict = load_predictor(checkpoint, device=parameters.device, test_time_augmentation=views == EIGHT)
                beside = judged.with_suffix(".tmp")
                with beside.open("wb") as file:
                    np.save(file, predict(cells[fold.test]))
                beside.replace(judged)
            parts.append(np.load(judged))
    return {views: np.concatenate(parts) for views, parts in found.items()}


def classes(table: pd.DataFrame) -> list[str]:
    """Names of the classes, in the order of their indices."""
    return sorted(table["label"].unique())


def compare(right: dict[str, dict[str, NDArray[np.bool_]]], people: NDArray[np.str_], resamples: int) -> pd.DataFrame:
    """Accuracy of each setting, and its difference to the first one's, with 95 % intervals over people."""
    units, unit = np.unique(people, return_inverse=True)
    weights = bootstrap_counts(len(units), resamples, np.random.default_rng(0))[:, unit]
    base = next(iter(right.values()))[ONE].astype(float)
    rows = []
    for name, of_views in right.items():
        for views, rights in of_views.items():
            row: dict[str, Any] = {"setting": name, "views": views}
            for what, values in (("accuracy", rights.astype(float)), ("difference", rights - base)):
                low, high = np.quantile(weights @ values / weights.sum(axis=1), (0.025, 0.975))
                row |= {what: values.mean(), f"{what}_low": low, f"{what}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
