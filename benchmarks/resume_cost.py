"""What an interruption costs: seconds from a restart to the first finished step, and the time lost to checkpoints.

    python benchmarks/resume_cost.py --json resume_cost.json
    python benchmarks/resume_cost.py --device cuda --minutes 10

A restart is a fresh process on a data set of full size, a memory map of 27,558 random images of 64 px: imports,
network, checkpoint (checksum verified), one step, not compiled. Data and checkpoint have been thrown out of the page
cache before. The goal is below 10 s on a CPU, imports included. The peer is what diffusers' examples do: a fresh
process with the same network, Accelerate's load_state, one step on a random batch that is there (it is spared its data
set, and skipping to where it was in it).

Checkpoints: seconds to save one, beside Accelerate's save_state of the same network and optimizer (which has no
averaged weights); and the share of a real training (`train`, by its own rules) spent saving, of which the goal is
below 0.5 %. `share_by_policy` is what the rules come to in a long training: a checkpoint at most every
CHECKPOINT_SECONDS and at each epoch's end, but only once CHECKPOINT_SHARE of the time pays for it.
"""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import (
    GPU_SIZE,
    NLM_CELLS,
    PROCESS,
    Setup,
    add_network_arguments,
    interleave,
    machine,
    make_parser,
    medians,
    need_peer,
    print_table,
    ratio,
    read_setup,
    run_fresh,
    status,
    synchronize,
    training_data,
    training_parameters,
    write_json,
)

from malaria_diffusion.cells.fingerprint import fingerprint_cells
from malaria_diffusion.diffusion.config import NetworkParameters
from malaria_diffusion.diffusion.training import trainer as training
from malaria_diffusion.diffusion.training.data import TrainingData
from malaria_diffusion.diffusion.training.trainer import CHECKPOINT_SHARE, Trainer

RESTART_GOAL, SHARE_GOAL = 10.0, 0.005


def write_cells(folder: Path, count: int, size: int) -> None:
    """A data set of random bytes."""
    status(f"writing {count:,} random images of {size} px")
    rng = np.random.default_rng(0)
    cells = np.lib.format.open_memmap(folder / "cells.npy", "w+", np.uint8, (count, 3, size, size))
    for start in range(0, count, 1024):
        part = cells[start : start + 1024]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
    cells.flush()


def read_cells(folder: Path) -> TrainingData:
    """As a memory map, every second one of each class."""
    cells = np.load(folder / "cells.npy", mmap_mode="r")
    return training_data(cells, np.arange(len(cells)) % 2)


def forget(folder: Path) -> None:
    """Throw the folder's files out of the page cache, where the system can."""
    for path in folder.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def restart(which: str, folder: Path) -> dict[str, float]:
    """In a fresh process: go on from a checkpoint and tell when what was done."""
    told = json.loads((folder / "setup.json").read_text())
    device = torch.device(told["device"])
    setup = Setup(device, told["size"], NetworkParameters(**told["network"]), told["precision"])
    if told["threads"]:
        torch.set_num_threads(told["threads"])
    if which == "ours":
        times = {"imported": time.time()}
        parameters = training_parameters(setup, told["batch"])
        with Trainer(read_cells(folder), PROCESS, setup.network, parameters, folder / "ours") as run:
            times["built"] = time.time()
            run.resume()
            if run.step == 0:
                raise RuntimeError("there was nothing to go on from")
            times["loaded"] = time.time()
            run.one_step()
            run.record(end_of_epoch=False)
            synchronize(device)
            times["stepped"] = time.time()
    else:
        from training_speed import Peer

        need_peer("accelerate")
        times = {"imported": time.time()}
        peer = Peer(None, setup, told["batch"], folder, mixed=setup.precision == "bfloat16")
        times["built"] = time.time()
        peer.accelerator.load_state(str(folder / "peer"))
        times["loaded"] = time.time()
        peer.step(random_batch(setup, told["batch"]))
        synchronize(device)
        times["stepped"] = time.time()
    return times


def random_batch(setup: Setup, batch: int) -> dict[str, torch.Tensor]:
    """For the peer."""
    images = torch.randn(batch, 3, setup.size, setup.size, device=setup.device)
    return {"input": images, "label": torch.zeros(batch, dtype=torch.int64, device=setup.device)}


def time_restart(which: str, folder: Path) -> dict[str, float]:
    """Seconds of each part of a restart, and of all."""
    forget(folder)
    start = time.time()
    times = run_fresh(restart, which, folder)
    parts = {
        "imports": times["imported"] - start,
        "building": times["built"] - times["imported"],
        "loading": times["loaded"] - times["built"],
        "first_step": times["stepped"] - times["loaded"],
    }
    return parts | {"total": times["stepped"] - start}


def measure_saves(setup: Setup, folder: Path, batch: int, rounds: int, with_peer: bool) -> dict[str, Any]:
    """Seconds and MiB of a checkpoint; leaves one of each kind in the folder."""
    works: dict[str, Callable[[], float]] = {}
    with Trainer(read_cells(folder), PROCESS, setup.network, training_parameters(setup, batch), folder / "ours") as run:
        for _ in range(2):
            run.one_step()
        run.record(end_of_epoch=False)
        works["ours"] = lambda: seconds_of(lambda: run.save(must=True), setup)
        if with_peer:
            from training_speed import Peer

            peer = Peer(None, setup, batch, folder, mixed=setup.precision == "bfloat16")
            for _ in range(2):
                peer.step(random_batch(setup, batch))
            works["peer"] = lambda: seconds_of(lambda: peer.accelerator.save_state(str(folder / "peer")), setup)
        found = interleave(works, rounds, "saving")
        steps_per_epoch = run.feed.steps_per_epoch
    mib = {
        name: sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file()) / 2**20
        for name in works
    }
    figures = {"save_seconds": medians(found), "checkpoint_mib": mib, "steps_per_epoch": steps_per_epoch}
    return figures | ({"save_ratio_to_peer": ratio(found["ours"], found["peer"])} if with_peer else {})


def seconds_of(work: Callable[[], Any], setup: Setup) -> float:
    """With the device idle before."""
    synchronize(setup.device)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class EnoughError(Exception):
    """The training has gone on for long enough."""


def measure_share(setup: Setup, folder: Path, batch: int, seconds: float, every: float | None) -> dict[str, Any]:
    """Share of a real training's time spent in `save`, by the rules of `train`."""
    saves: list[float] = []
    written: list[int] = []
    began = 0.0

    class Watched(Trainer):
        """Counts, and ends in time."""

        def one_step(self) -> None:
            nonlocal began
            if self.step == 1:
                began = time.perf_counter()
            if self.step > 1 and time.perf_counter() - began > seconds:
                written.append(self.step)
                raise EnoughError
            super().one_step()

        def save(self, must: bool) -> None:
            before, start = self.last_save, time.perf_counter()
            super().save(must)
            saves.append(time.perf_counter() - start)
            if self.last_save != before:
                written.append(-1)

    former = training.Trainer, training.CHECKPOINT_SECONDS
    training.Trainer, training.CHECKPOINT_SECONDS = Watched, every or training.CHECKPOINT_SECONDS
    try:
        training.train(read_cells(folder), PROCESS, setup.network, training_parameters(setup, batch), folder / "share")
    except EnoughError:
        pass
    finally:
        training.Trainer, training.CHECKPOINT_SECONDS = former
    took = time.perf_counter() - began
    return {
        "trained_seconds": took,
        "step_seconds": took / written[-1],
        "checkpoints_written": written.count(-1),
        "checkpoint_share": sum(saves) / took,
    }


def measure(setup: Setup, folder: Path, arguments: Any) -> dict[str, Any]:
    """All figures."""
    write_cells(folder, arguments.cells, setup.size)
    threads = torch.get_num_threads() if setup.device.type == "cpu" else None
    told = setup.described() | {"batch": arguments.batch, "threads": threads}
    (folder / "setup.json").write_text(json.dumps(told))
    figures = measure_saves(setup, folder, arguments.batch, arguments.rounds, arguments.peer)

    restarts: dict[str, list[dict[str, float]]] = {"ours": []} | ({"peer": []} if arguments.peer else {})
    works = {
        name: lambda name=name: restarts[name].append(time_restart(name, folder)) or restarts[name][-1]["total"]
        for name in restarts
    }
    interleave(works, arguments.rounds, "restarting")
    figures["restart_seconds"] = {
        name: {part: statistics.median(one[part] for one in parts) for part in parts[0]}
        for name, parts in restarts.items()
    }
    if arguments.peer:
        figures["restart_ratio_to_peer"] = ratio(*([one["total"] for one in restarts[name]] for name in restarts))
    names = pd.DataFrame({"label": "A", "name": [str(index) for index in range(arguments.cells)]})
    cells = np.load(folder / "cells.npy", mmap_mode="r")
    figures["fingerprint_seconds"] = seconds_of(lambda: fingerprint_cells(cells, names), setup)
    figures |= measure_share(setup, folder, arguments.batch, 60 * arguments.minutes, arguments.checkpoint_seconds)
    save = figures["save_seconds"]["ours"]
    epoch = figures["step_seconds"] * figures["steps_per_epoch"]
    interval = max(min(training.CHECKPOINT_SECONDS, epoch), save / CHECKPOINT_SHARE)
    figures["share_by_policy"] = save / interval
    figures["goals_met"] = {
        "restart": figures["restart_seconds"]["ours"]["total"] < RESTART_GOAL,
        "checkpoint_share": figures["checkpoint_share"] < SHARE_GOAL,
    }
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    names = {"ours": "ours", "peer": "diffusers' loop, Accelerate"}
    parts = list(figures["restart_seconds"]["ours"])
    rows: dict[str, list[float | str | None]] = {
        names[name]: list(seconds.values()) for name, seconds in figures["restart_seconds"].items()
    }
    print_table("seconds from a restart", parts, rows)
    rows = {
        names[name]: [seconds, figures["checkpoint_mib"][name]] for name, seconds in figures["save_seconds"].items()
    }
    print_table("a checkpoint", ["seconds", "MiB"], rows)
    print(f"the cells' fingerprint, which kedro run takes besides: {figures['fingerprint_seconds']:.2f} s")
    print(
        f"saving took {figures['checkpoint_share']:.3%} of {figures['trained_seconds']:.0f} s of training "
        f"({figures['checkpoints_written']} written; goal: below {SHARE_GOAL:.1%}); in a long one its rules come to "
        f"{figures['share_by_policy']:.3%}"
    )
    if not figures["checkpoints_written"]:
        print("WARNING: nothing was saved in that time; give more --minutes")


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    add_network_arguments(parser, cpu_size=GPU_SIZE)
    parser.add_argument("--batch", type=int, default=32, help="default 32")
    parser.add_argument("--cells", type=int, default=NLM_CELLS, help=f"images in the data set, default {NLM_CELLS}")
    parser.add_argument("--rounds", type=int, default=5, help="restarts, and saves, of each; default 5")
    parser.add_argument("--minutes", type=float, default=5, help="of training, for the share of saving; default 5")
    parser.add_argument(
        "--checkpoint-seconds", type=float, help="between two checkpoints; default as in `train`; only to try this out"
    )
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="ours alone; needs no further package")
    arguments = parser.parse_args()
    if arguments.peer:
        need_peer("accelerate")
    setup = read_setup(arguments)
    with tempfile.TemporaryDirectory() as name:
        found = measure(setup, Path(name), arguments)
    show(found)
    figures = {"machine": machine(setup.device), "setup": setup.described() | {"batch": arguments.batch}} | found
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
