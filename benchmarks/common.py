"""What the benchmarks of the DDPM share: networks, data, interleaved rounds, fresh processes, tables."""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import argparse
import importlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from packing import write_archive
from PIL import Image
from tqdm.auto import tqdm

from malaria_diffusion.cells.packing import PackingParameters, pack_cells
from malaria_diffusion.cells.sources import ZipSource
from malaria_diffusion.compute.device import multiplies_bfloat16, resolve_device
from malaria_diffusion.diffusion.config import (
    Loss,
    NetworkParameters,
    Prediction,
    ProcessParameters,
    ScheduleKind,
    TrainingParameters,
)
from malaria_diffusion.diffusion.training.data import TrainingData

T = TypeVar("T")

NLM_CELLS = 27_558  # of the data set that all this is for: the length of an epoch here too
VAL_ROWS = 64
CPU_THREADS = 2
PROCESS = ProcessParameters(
    timesteps=1000, schedule=ScheduleKind.LINEAR, beta_start=1e-4, beta_end=0.02, prediction=Prediction.EPSILON
)
SMALL = NetworkParameters(  # 2.68 M parameters
    channels=[64, 96, 96], layers_per_block=1, attention_sides=[], norm_groups=8, dropout=0.0
)
LARGE = NetworkParameters(  # 14 M parameters, that of conf/paper
    channels=[64, 128, 160, 192], layers_per_block=2, attention_sides=[16], norm_groups=32, dropout=0.0
)
CPU_SIZE, GPU_SIZE = 32, 64


class Setup(NamedTuple):
    """What is measured, and where.

    Attributes:
        device: Where.
        size: Side of the images.
        network: The U-Net.
        precision: "float32" or "bfloat16".
    """

    device: torch.device
    size: int
    network: NetworkParameters
    precision: str

    def described(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "device": self.device.type,
            "size": self.size,
            "network": self.network.model_dump(mode="json"),
            "precision": self.precision,
        }


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark knows."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: auto, a GPU if there is one"
    )
    parser.add_argument(
        "--threads", type=int, default=None, help=f"of torch; default {CPU_THREADS} on a CPU, torch's own beside a GPU"
    )
    return parser


def add_network_arguments(parser: argparse.ArgumentParser, cpu_size: int = CPU_SIZE) -> None:
    """Options for what is trained."""
    group = parser.add_argument_group("network", "defaults: what stands first on a CPU, second on a GPU")
    group.add_argument("--size", type=int, help=f"side of the images: {cpu_size}, {GPU_SIZE}")
    group.add_argument("--channels", type=int, nargs="+", help=f"{SMALL.channels}, {LARGE.channels}")
    group.add_argument("--layers", type=int, help=f"a block: {SMALL.layers_per_block}, {LARGE.layers_per_block}")
    group.add_argument("--attention", type=int, nargs="*", help=f"sides: none, {LARGE.attention_sides}")
    group.add_argument("--norm-groups", type=int, help=f"{SMALL.norm_groups}, {LARGE.norm_groups}")
    group.add_argument(
        "--precision", choices=["bfloat16", "float32"], default="bfloat16", help="mixed; bfloat16, bfloat16"
    )
    parser.set_defaults(cpu_size=cpu_size)


def prepare(arguments: argparse.Namespace) -> torch.device:
    """Set threads and return the device."""
    device = resolve_device(arguments.device)
    threads = arguments.threads or (min(CPU_THREADS, cores()) if device.type == "cpu" else None)
    if threads is not None:
        torch.set_num_threads(threads)
    return device


def read_setup(arguments: argparse.Namespace) -> Setup:
    """The setup that the options ask for."""
    device = prepare(arguments)
    on_gpu = device.type == "cuda"
    asked = {
        "channels": arguments.channels,
        "layers_per_block": arguments.layers,
        "attention_sides": arguments.attention,
        "norm_groups": arguments.norm_groups,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    network = NetworkParameters(**(LARGE if on_gpu else SMALL).model_dump() | changes)
    size = arguments.size or (GPU_SIZE if on_gpu else arguments.cpu_size)
    return Setup(device, size, network, arguments.precision)


def training_parameters(setup: Setup, batch: int, **changes: Any) -> TrainingParameters:
    """The project's training, with the peer's learning rate and warm-up so that losses can be compared."""
    values = {
        "epochs": 1000,
        "batch_size": batch,
        "accumulation": 1,
        "loss": Loss.SIMPLE,
        "label_dropout": 0.0,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "warmup_steps": 500,
        "decay_epochs": None,
        "gradient_clip": 1.0,
        "ema_decay": 0.9999,
        "flips": True,
        "precision": setup.precision,
        "compile": False,
        "device": setup.device.type,
        "seed": 0,
        "quality_epochs": 1000,
        "quality_images": 2,
    }
    return TrainingParameters(**values | changes)


class Pictures(NamedTuple):
    """The same pictures as three things.

    Attributes:
        original: Folder of PNGs of about 130 px, a folder for each class.
        small: The same, `size` px.
        data: A memory map of the small ones, an epoch of NLM_CELLS rows.
    """

    original: Path
    small: Path
    data: TrainingData


def draw_pictures(folder: Path, count: int, size: int) -> Pictures:
    """Draw `count` pictures of two classes into `folder`."""
    archive = folder / "cells.zip"
    status(f"drawing {count} PNGs of about 130 px")
    write_archive(archive, count)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "original")
    packed = pack_cells(ZipSource(archive), PackingParameters(size=size), folder / "cells.npy")
    cells = np.load(folder / "cells.npy", mmap_mode="r")
    for index, (cell, label) in enumerate(zip(cells, packed.table["label"], strict=True)):
        path = folder / "small" / label / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(cell.transpose(1, 2, 0))).save(path)
    np.save(folder / "labels.npy", (packed.table["label"] == "B").to_numpy(np.int64))
    return open_pictures(folder)


def open_pictures(folder: Path) -> Pictures:
    """What `draw_pictures` has drawn."""
    data = training_data(np.load(folder / "cells.npy", mmap_mode="r"), np.load(folder / "labels.npy"))
    return Pictures(folder / "original" / "cell_images", folder / "small", data)


def training_data(cells: np.ndarray, labels: np.ndarray) -> TrainingData:
    """All rows again and again to the length of a real epoch; some of both ends to watch."""
    ends = min(VAL_ROWS // 2, len(cells) // 2)
    val_rows = np.concatenate([np.flatnonzero(labels == label)[:ends] for label in (0, 1)])
    return TrainingData(cells, labels, np.resize(np.arange(len(cells)), NLM_CELLS), val_rows, 2, "benchmark")


def interleave(works: dict[str, Callable[[], T]], rounds: int, what: str) -> dict[str, list[T]]:
    """What each of `works` returns in every round; they take turns, every other round in the opposite order."""
    found: dict[str, list[T]] = {name: [] for name in works}
    with tqdm(total=rounds * len(works), desc=what, unit="run", position=0) as bar:
        for number in range(rounds):
            for name in list(works) if number % 2 == 0 else reversed(works):
                bar.set_postfix_str(name)
                found[name].append(works[name]())
                bar.update()
    return found


def medians(found: dict[str, list[float]]) -> dict[str, float]:
    """Of each."""
    return {name: statistics.median(values) for name, values in found.items()}


def ratio(one: list[float], other: list[float]) -> float:
    """Median over the rounds of one by the other: what slows a whole round down is not in it."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_fresh(work: Callable[..., T], *arguments: Any) -> T:
    """The result of `work` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(work, *arguments).result()


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    status_file = Path("/proc/self/status")
    if status_file.exists():  # unlike getrusage it leaves out the peak of the parent process
        return int(status_file.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def need_peer(*packages: str) -> None:
    """End with one sentence if a package that only the peer needs is not installed."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            sys.exit(
                f"diffusers' training loop needs the package {package!r}, which is not installed: run "
                '`pip install -e ".[benchmark]"`, or leave the peer out with --no-peer'
            )


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: torch.device) -> dict[str, Any]:
    """What was measured on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "bfloat16": "GPU" if device.type == "cuda" else multiplies_bfloat16(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def status(text: str) -> None:
    """Tell what is being done."""
    print(text, file=sys.stderr, flush=True)


def print_table(title: str, columns: list[str], rows: dict[str, list[float | str | None]]) -> None:
    """Rows of numbers under their columns."""
    widths = [max(12, len(column) + 2) for column in columns]
    first = max(len(name) for name in [title, *rows]) + 2
    print(f"\n{title:{first}}" + "".join(f"{column:>{width}}" for column, width in zip(columns, widths, strict=True)))
    for name, values in rows.items():
        print(f"{name:{first}}" + "".join(_cell(value, width) for value, width in zip(values, widths, strict=True)))


def _cell(value: float | str | None, width: int) -> str:
    if value is None:
        return " " * width
    return f"{value:>{width}}" if isinstance(value, str) else f"{value:>{width},.4g}"


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
