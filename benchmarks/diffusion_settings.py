"""Which settings make the best DDPM in the same processor time? Chosen without the people that test it.

    kedro run --env nlm --pipeline data_processing
    python benchmarks/diffusion_settings.py --speeds-only
    python benchmarks/diffusion_settings.py --minutes 30 --seeds 0 1 --json diffusion_settings.json

First every setting's speed is measured, alone on the machine and with --threads threads, compiling left out. A budget
of minutes then buys each setting the images that it would see in them, however busy or fast the machine is on which the
training runs; the learning rate is annealed over just that many. So a table may be made beside other work, or on
another machine, and speeds are the only thing that has to be quiet.

The training people's cells train, and the validation people's judge: kernel distance in the space that steers
(`training/quality.py`), precision and recall there (Kynkaanniemi et al. 2019), and the loss by noise level, at uniform
timesteps whatever the training drew. The floor is that of training cells. A training that is finished is not
repeated, a killed one goes on.
"""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import cores, machine, status, write_json
from tqdm.auto import tqdm

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.compute.device import resolve_device
from malaria_diffusion.compute.randomness import Purpose, draw_samples
from malaria_diffusion.diffusion.config import NetworkParameters, ProcessParameters, TrainingParameters
from malaria_diffusion.diffusion.training.data import TrainingData, read_batch
from malaria_diffusion.diffusion.training.monitoring import Watch
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.trainer import (
    EpochReport,
    Trainer,
    load_best_weights,
    train,
    training_identity,
    training_settings,
)
from malaria_diffusion.files import whole
from malaria_diffusion.statistics.neighbours import neighbour_scores

PROCESS = {"timesteps": 1000, "schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "prediction": "v_prediction"}
NETWORK = {"channels": [32, 64, 96], "layers_per_block": 1, "attention_sides": [], "norm_groups": 8, "dropout": 0.0}
TRAINING = {
    "batch_size": 16,
    "accumulation": 1,
    "loss": "simple",
    "label_dropout": 0.0,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "weight_decay": 0.0,
    "warmup_steps": 200,
    "gradient_clip": 1.0,
    "ema_decay": 0.999,
    "flips": True,
    "precision": "bfloat16",
    "compile": True,
    "device": "auto",
}
OURS = {
    "optimizer": "muon",
    "learning_rate": 0.002,
    "ema_decay": 0.99,
    "quarter_turns": True,
    "timestep_draw": "stratified",
    "log_snr_deviation": 2.4,
}
NARROW = {"channels": [32, 64, 64], "attention_head_channels": 32}
PATCHES = {"patch_size": 2, "channels": [64, 128, 192]}
# by name: what differs from the above, in the network and in the training; the first is conf/nlm of before
SETTINGS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Adam": ({}, {}),
    "Muon": ({}, OURS | {"log_snr_deviation": None}),
    "Muon, around log SNR 0": ({}, OURS),
    "Adam, around log SNR 0": ({}, OURS | {"optimizer": "adam", "learning_rate": 0.001}),
    "Muon, around log SNR 0, batch 32": ({}, OURS | {"batch_size": 32, "learning_rate": 0.003}),
    "narrower, Muon, around log SNR 0": (NARROW, OURS),
    "narrower, batch 16 in 2 parts": (NARROW, OURS | {"accumulation": 2}),
    "narrower, batch 32 in 2 parts": (NARROW, OURS | {"batch_size": 32, "accumulation": 2, "learning_rate": 0.003}),
    "narrower, batch 32 in 4 parts": (NARROW, OURS | {"batch_size": 32, "accumulation": 4, "learning_rate": 0.003}),
    "patches, Adam": (PATCHES, {"compile": False}),
    "patches, Muon, around log SNR 0": (PATCHES, OURS | {"compile": False}),
}
NOISE_LEVELS = [-7.0, -4.0, -1.0, 2.0, 5.0]  # log SNR, between the levels
LOSS_CELLS = 1024
BATCH = 64


def main() -> None:
    """Measure speeds, train every setting, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=Path("data/03_primary/cells.npy"))
    parser.add_argument("--table", type=Path, default=Path("data/03_primary/cell_table.parquet"))
    parser.add_argument("--work", type=Path, default=Path("data/02_intermediate/diffusion_settings"))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--minutes", type=float, nargs="+", default=[30.0], help="of processor time, default 30")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="default 0 1")
    parser.add_argument("--threads", type=int, default=1, help="of torch, default 1")
    parser.add_argument("--speeds-only", action="store_true", help="measure speeds that are not known yet, and stop")
    parser.add_argument("--images", type=int, default=400, help="generated and judged, default 400")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(min(arguments.threads, cores()))
    data = read_data(arguments.cells, arguments.table)
    arguments.work.mkdir(parents=True, exist_ok=True)
    speeds = measure_speeds(data, arguments)
    for name in arguments.settings:
        status(f"{name}: {speeds[name]:.1f} images/s")
    if arguments.speeds_only:
        return
    rows = []
    for minutes in arguments.minutes:
        for name in tqdm(arguments.settings, desc=f"settings, {minutes:g} minutes", unit="setting"):
            seeds = [judge(data, name, minutes, speeds[name], seed, arguments) for seed in arguments.seeds]
            rows.append({"setting": name, "minutes": minutes, "images_per_second": speeds[name], "seeds": seeds})
    table = pd.DataFrame([summary(row) for row in rows])
    device = resolve_device("auto")
    print(f"floor: {floor(data, arguments.images):.4f} (training cells, as many)")
    print(table.to_string(index=False, float_format="{:.4f}".format))
    if arguments.json:
        write_json(arguments.json, {"machine": machine(device), "threads": arguments.threads, "rows": rows})


def read_data(cells: Path, table: Path) -> TrainingData:
    """The packed cells; the people that test take no part."""
    known = pd.read_parquet(table)
    names = sorted(known["label"].unique())
    return TrainingData(
        cells=np.load(cells, mmap_mode="r"),
        labels=known["label"].map(names.index).to_numpy(np.int64),
        train_rows=np.flatnonzero(training_rows(known)),
        val_rows=np.flatnonzero(known["split"] == "val"),
        num_classes=len(names),
        fingerprint=f"{len(known)} cells of {cells.stat().st_size} bytes",
    )


def parameters_of(name: str, seed: int, epochs: int, images: int) -> tuple[NetworkParameters, TrainingParameters]:
    """A setting, to be trained for so many epochs and looked at once, at the end."""
    network, training = SETTINGS[name]
    ends = {"epochs": epochs, "decay_epochs": epochs, "quality_epochs": epochs, "quality_images": images, "seed": seed}
    return NetworkParameters(**NETWORK | network), TrainingParameters(**TRAINING | training | ends)


def measure_speeds(
    data: TrainingData, arguments: argparse.Namespace, steps: int = 8, rounds: int = 3
) -> dict[str, float]:
    """Training images a second of each setting, medians of rounds; those known to the work folder are not repeated."""
    path = arguments.work / f"speeds-{arguments.threads}-threads.json"
    speeds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    for name in arguments.settings:
        if name in speeds:
            continue
        status(f"speed of {name}")
        network, training = parameters_of(name, 0, 1, arguments.images)
        with (
            tempfile.TemporaryDirectory() as folder,
            Trainer(data, ProcessParameters(**PROCESS), network, training, Path(folder)) as run,
        ):
            for _ in range(3):
                run.one_step()
            found = []
            for _ in range(rounds):
                start = time.perf_counter()
                for _ in range(steps):
                    run.one_step()
                float(run.loss_sum)  # waits for a device
                found.append(steps * training.batch_size / (time.perf_counter() - start))
        torch._dynamo.reset()
        speeds[name] = statistics.median(found)
        with whole(path) as beside:
            beside.write_text(json.dumps(speeds, indent=1))
    return speeds


def judge(
    data: TrainingData, name: str, minutes: float, speed: float, seed: int, arguments: argparse.Namespace
) -> dict[str, float]:
    """Train for the images that the budget buys, and measure; what is measured already is read."""
    images = speed * minutes * 60
    # an epoch is a pass over the rows, so rows are left out at random until whole epochs make up the number
    epochs = math.ceil(images / len(data.train_rows))
    chosen = np.random.default_rng(0).permutation(data.train_rows)[: round(images / epochs)]
    data = data._replace(train_rows=np.sort(chosen), fingerprint=f"{data.fingerprint}, {len(chosen)} of them")
    network, training = parameters_of(name, seed, epochs, arguments.images)
    process = ProcessParameters(**PROCESS)
    size = int(data.cells.shape[-1])
    settings = training_settings(data.fingerprint, size, data.num_classes, process, network, training)
    folder = arguments.work / f"{training_identity(settings)}-{epochs}"
    measured = folder / "measured.json"
    if measured.exists():
        return json.loads(measured.read_text())

    def keep(report: EpochReport) -> None:
        if report.images is not None:
            np.save(folder / "images.npy", report.images)

    history = train(data, process, network, training, folder, keep)
    generated = np.load(folder / "images.npy")
    watch = Watch(data, training, process.timesteps)
    near = neighbour_scores(watch.measure.features(watch.reference), watch.measure.features(generated))
    objective = Objective(process, network, training, size, data.num_classes, torch.bfloat16)
    objective.load_state_dict(load_best_weights(folder).weights)
    found = {
        "images_seen": int(history["images_seen"].iloc[-1]),
        "kernel_distance": float(history["kernel_distance"].dropna().iloc[-1]),
        "precision": near["precision"],
        "recall": near["recall"],
    } | losses(data, objective.eval())
    measured.write_text(json.dumps(found, indent=1))
    return found


@torch.no_grad()
def losses(data: TrainingData, objective: Objective) -> dict[str, float]:
    """Mean error of v on validation cells, over uniform timesteps and by noise level."""
    rows = np.random.default_rng(0).permutation(data.val_rows)[:LOSS_CELLS]
    timesteps = objective.diffusion.timesteps
    t = torch.from_numpy(np.arange(len(rows)) * timesteps // len(rows))
    found = []
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        draw = draw_samples(0, Purpose.VALIDATION, range(len(rows))[part], timesteps, data.cells.shape[1:])
        found.append(objective(read_batch(data, rows[part], draw._replace(t=t[part]))))
    errors = torch.cat(found).numpy()
    level = np.digitize(objective.diffusion.schedule.alpha_bars.logit()[t].numpy(), NOISE_LEVELS)
    by_level = {f"loss_{place}": float(errors[level == place].mean()) for place in range(len(NOISE_LEVELS) + 1)}
    return {"loss": float(errors.mean())} | by_level


def floor(data: TrainingData, images: int) -> float:
    """Kernel distance of as many training cells."""
    _, training = parameters_of(next(iter(SETTINGS)), 0, 1, images)
    watch = Watch(data, training, PROCESS["timesteps"])
    shuffled = np.random.default_rng(0).permutation(data.train_rows)
    labels, each = data.labels[shuffled], images // data.num_classes
    rows = np.concatenate([shuffled[labels == label][:each] for label in range(data.num_classes)])
    return watch.measure.distance(data.cells[np.sort(rows)])


def summary(row: dict[str, Any]) -> dict[str, Any]:
    """Means over seeds, and the kernel distance of each."""
    seeds = pd.DataFrame(row["seeds"])
    distances = ", ".join(f"{value:.3f}" for value in seeds["kernel_distance"])
    told = {key: row[key] for key in ("setting", "minutes", "images_per_second")}
    return told | seeds.mean().to_dict() | {"of each seed": distances}


if __name__ == "__main__":
    main()
