"""The classifier trained from the memory map beside ultralytics' own loader of image folders: same accuracy, what time?

    kedro run --pipeline data_processing
    python benchmarks/classifier_parity.py --json classifier_parity.json

Both train YOLOv8n-cls from scratch with the same settings and number of steps on the same training cells,
choose the epoch by the same validation cells, and are judged on the same test cells. The peer reads PNG files of the
packed size, which it is spared the writing of. Seeds cannot be matched, so several are run and means compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.sandbox import private_ultralytics
from malaria_diffusion.classifier.trainer import train_classifier


def main() -> None:
    """Run both with every seed and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=Path("data/03_primary/cells.npy"))
    parser.add_argument("--table", type=Path, default=Path("data/03_primary/cell_table.parquet"))
    parser.add_argument("--work", type=Path, default=Path("data/02_intermediate/classifier_parity"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--cells-used", type=int, default=None, help="at most so many of each split")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cells, table = np.load(arguments.cells, mmap_mode="r"), pd.read_parquet(arguments.table)
    names = sorted(table["label"].unique())
    labels = table["label"].map(names.index).to_numpy(np.int64)
    sides = {"train": training_rows(table), "val": table["split"] == "val", "test": table["split"] == "test"}
    shuffled = np.random.default_rng(0).permutation(len(table))
    rows = {side: np.sort(shuffled[mask.to_numpy()[shuffled]][: arguments.cells_used]) for side, mask in sides.items()}
    folder = write_folder(cells, labels, names, rows, arguments.work)
    found: dict[str, list[dict[str, float]]] = {"ours": [], "ultralytics": []}
    for seed in tqdm(range(arguments.seeds), desc="seeds", unit="seed"):
        parameters = settings(arguments, seed)
        runs = {
            "ours": lambda p=parameters, at=arguments.work / f"ours-{seed}": train_classifier(
                ClassifierData(cells, labels, names, rows["train"], rows["val"]), p, at
            )[0],
            "ultralytics": lambda p=parameters, at=arguments.work / f"theirs-{seed}": train_theirs(folder, p, at),
        }
        for who, run in runs.items():
            start = time.perf_counter()
            checkpoint = run()
            seconds = time.perf_counter() - start
            guess = predict(checkpoint, cells[rows["test"]]).argmax(axis=1)
            found[who].append({"accuracy": float((guess == labels[rows["test"]]).mean()), "seconds": seconds})
    result: dict[str, Any] = {who: {key: [run[key] for run in runs] for key in runs[0]} for who, runs in found.items()}
    means = {who: statistics.fmean(of["accuracy"]) for who, of in result.items()}
    result["difference"] = means["ours"] - means["ultralytics"]
    result["speed_ratio"] = sum(result["ultralytics"]["seconds"]) / sum(result["ours"]["seconds"])
    for who in found:
        each = ", ".join(f"{value:.3f}" for value in result[who]["accuracy"])
        print(f"{who:12s} accuracy on test cells {means[who]:.3f} ({each})")
    print(f"difference {result['difference']:+.4f}; ours is {result['speed_ratio']:.2f} times as fast")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


def settings(arguments: argparse.Namespace, seed: int) -> ClassifierParameters:
    """Those of the embedded default."""
    return ClassifierParameters(
        architecture="yolov8n-cls",
        weights=None,
        image_size=arguments.image_size,
        epochs=arguments.epochs,
        batch_size=32,
        optimizer="AdamW",
        learning_rate=0.002,
        momentum=0.9,
        weight_decay=0.01,
        warmup_epochs=min(1, arguments.epochs - 1),
        final_learning_rate_fraction=0.01,
        kept_epoch="best",
        flips=False,
        colour=0.0,
        test_time_augmentation=False,
        precision="float32",
        seed=seed,
        device="cpu",
    )


def write_folder(
    cells: NDArray[np.uint8],
    labels: NDArray[np.int64],
    names: list[str],
    rows: dict[str, NDArray[np.int64]],
    work: Path,
) -> Path:
    """PNG files as ultralytics wants them: train and val, a folder for each class."""
    for side in ("train", "val"):
        for row in tqdm(rows[side], desc=f"writing {side}", unit="image"):
            path = work / "folder" / side / names[labels[row]] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(cells[row].transpose(1, 2, 0)).save(path)
    return work / "folder"


def train_theirs(folder: Path, parameters: ClassifierParameters, work: Path) -> Path:
    """Ultralytics' own trainer and loader, told to do what ours does."""
    with private_ultralytics():
        from ultralytics import YOLO

        model = YOLO(f"{parameters.architecture}.yaml")
        model.train(
            data=str(folder.absolute()),
            project=str(work.absolute()),
            name="run",
            exist_ok=True,
            imgsz=parameters.image_size,
            epochs=parameters.epochs,
            patience=0,
            batch=parameters.batch_size,
            nbs=parameters.batch_size,
            optimizer=parameters.optimizer,
            lr0=parameters.learning_rate,
            lrf=parameters.final_learning_rate_fraction,
            momentum=parameters.momentum,
            weight_decay=parameters.weight_decay,
            warmup_epochs=parameters.warmup_epochs,
            warmup_momentum=parameters.momentum,
            warmup_bias_lr=0.0,
            seed=parameters.seed,
            device="cpu",
            workers=0,
            amp=False,
            plots=False,
            verbose=False,
            pretrained=False,
            fliplr=0.0,
            flipud=0.0,
            scale=0.0,
            erasing=0.0,
            auto_augment=None,
            hsv_h=0.0,
            hsv_s=0.0,
            hsv_v=0.0,
        )
    return work / "run" / "weights" / "best.pt"


if __name__ == "__main__":
    main()
