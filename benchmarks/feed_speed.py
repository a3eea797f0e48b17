"""What feeding costs a training: the feed alone, beside a DataLoader over PNG files, and within real steps.

    python benchmarks/feed_speed.py --json feed_speed.json
    python benchmarks/feed_speed.py --device cuda --batch 256

The feed alone is Feed.step: memory map to batches on the device, flipped, with timesteps and keyed noise. The peer
delivers the same from PNG files resized beforehand: torchvision's ImageFolder and a DataLoader, noise drawn on the
device by torch.

Within real steps the feed costs in two ways, both as shares of the step's time:
  waiting  time inside Feed.step. On a GPU it overlaps with what is still being computed there, so it is too high.
  cost     by how much steps are slower than the same steps on one batch that is there already: waiting, and what the
           reading thread takes from the cores that compute. A difference of two timings: the noisier of the two.
The goal is a waiting share below 2 % on a CPU, 3 % on a GPU.
"""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from common import (
    NLM_CELLS,
    PROCESS,
    Pictures,
    Setup,
    add_network_arguments,
    cores,
    draw_pictures,
    interleave,
    machine,
    make_parser,
    medians,
    print_table,
    ratio,
    read_setup,
    status,
    synchronize,
    training_parameters,
    write_json,
)
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from malaria_diffusion.compute.distributed import Processes
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.training.data import Batch, Feed
from malaria_diffusion.diffusion.training.trainer import LOG_STEPS, Trainer

GOALS = {"cpu": 0.02, "cuda": 0.03}


class TimedFeed:
    """Stands before a run's feed: measures how long it is waited for, or gives the same batch again and again."""

    def __init__(self, run: Trainer) -> None:
        self._original = run.feed.step
        self.seconds = 0.0
        self.fixed: list[Batch] | None = None
        self._first = self._original(0)
        run.feed.step = self.step

    def step(self, step: int) -> list[Batch]:
        """In place of Feed.step."""
        if self.fixed is not None:
            return self.fixed
        start = time.perf_counter()
        batches = self._original(step)
        self.seconds += time.perf_counter() - start
        return batches

    def fix(self, fixed: bool) -> None:
        """From now on the first batch alone, or real ones."""
        self.fixed = self._first if fixed else None


def feed_alone(pictures: Pictures, setup: Setup, batch: int) -> tuple[Feed, Callable[[int], None]]:
    """A feed and what takes so many steps' samples from it."""
    feed = Feed(
        pictures.data,
        training_parameters(setup, batch),
        GaussianDiffusion.from_parameters(PROCESS),
        Processes(0, 1),
        setup.device,
    )
    numbers = itertools.count()

    def take(steps: int) -> None:
        for _ in range(steps):
            feed.step(next(numbers))

    return feed, take


def loader(folder: Path, batch: int, workers: int) -> DataLoader:
    """The peer: PNGs that have their size already, flipped like ours, in [-1, 1]; an epoch about as long as ours."""
    pipeline = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomVerticalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )
    dataset = ImageFolder(str(folder), transform=pipeline)
    repeated = torch.utils.data.ConcatDataset([dataset] * max(1, NLM_CELLS // len(dataset)))
    pin = torch.cuda.is_available()
    return DataLoader(repeated, batch_size=batch, shuffle=True, num_workers=workers, drop_last=True, pin_memory=pin)


def take_from_loader(batches: Iterator[list[torch.Tensor]], steps: int, device: torch.device) -> None:
    """So many steps' samples on the device, with the noise and timesteps that training needs."""
    for _ in range(steps):
        images, labels = (tensor.to(device, non_blocking=True) for tensor in next(batches))
        torch.randn(images.shape, device=device)
        torch.randint(0, PROCESS.timesteps, labels.shape, device=device)


def measure(pictures: Pictures, setup: Setup, batch: int, folder: Path, arguments: Any) -> dict[str, Any]:
    """All figures of one batch size."""
    device, steps, warm = setup.device, arguments.steps, arguments.warm

    def seconds_of(work: Callable[[int], Any], warm_steps: int) -> float:
        work(warm_steps)
        synchronize(device)
        start = time.perf_counter()
        work(steps)
        synchronize(device)
        return time.perf_counter() - start

    def peer(workers: int) -> float:
        batches = iter(loader(pictures.small, batch, workers))
        # twice what workers read ahead: what was read while warming up must not count
        return seconds_of(lambda count: take_from_loader(batches, count, device), max(warm, 4 * workers))

    feed, take = feed_alone(pictures, setup, batch)
    parameters = training_parameters(setup, batch, compile=not arguments.eager)
    with Trainer(pictures.data, PROCESS, setup.network, parameters, folder) as run:
        timed = TimedFeed(run)
        waiting: list[float] = []

        def train(count: int) -> None:
            for _ in range(count):
                run.one_step()
                if run.step % LOG_STEPS == 0:
                    run.record(end_of_epoch=False)

        def real_steps() -> float:
            timed.fix(False)
            train(warm)
            synchronize(device)
            timed.seconds, start = 0.0, time.perf_counter()
            train(steps)
            synchronize(device)
            seconds = time.perf_counter() - start
            waiting.append(timed.seconds / seconds)
            return seconds

        def steps_alone() -> float:
            timed.fix(True)
            return seconds_of(train, warm)

        works: dict[str, Callable[[], float]] = {
            "feed": lambda: seconds_of(take, warm),
            "training_steps": real_steps,
            "steps_without_feed": steps_alone,
        }
        for workers in sorted({0, cores()}):
            works[f"peer_{workers}_workers"] = lambda workers=workers: peer(workers)
        status("first steps" + (" (compiling takes a minute or two)" if not arguments.eager else ""))
        train(2)
        found = interleave(works, arguments.rounds, f"batches of {batch}")
    feed.close()
    speeds = {name: [batch * steps / seconds for seconds in values] for name, values in found.items()}
    peers = [name for name in speeds if name.startswith("peer")]
    best = max(peers, key=medians(speeds).__getitem__)
    share = sorted(waiting)[len(waiting) // 2]
    return {
        "images_per_second": medians(speeds),
        "rounds": speeds,
        "waiting_share": share,
        "waiting_share_rounds": waiting,
        "cost_share": 1 - ratio(speeds["training_steps"], speeds["steps_without_feed"]),
        "feed_to_steps": ratio(speeds["feed"], speeds["steps_without_feed"]),
        "feed_to_peer": ratio(speeds["feed"], speeds[best]),
        "best_peer": best,
        "goal": GOALS.get(device.type, GOALS["cpu"]),
        "goal_met": share < GOALS.get(device.type, GOALS["cpu"]),
    }


def show(batch: int, figures: dict[str, Any]) -> None:
    """Print one batch size's table."""
    alone = figures["images_per_second"]["steps_without_feed"]
    names = {
        "feed": "the feed alone",
        "training_steps": "real training steps",
        "steps_without_feed": "the same on one batch that is there",
    }
    rows: dict[str, list[float | str | None]] = {}
    for name, speed in figures["images_per_second"].items():
        told = names[name] if name in names else f"DataLoader, PNGs, {name.split('_')[1]} workers"
        rows[told] = [speed, speed / alone]
    print_table(f"batches of {batch}", ["images/s", "to steps alone"], rows)
    print(
        f"waiting for the feed: {figures['waiting_share']:.2%} of a step (goal: below {figures['goal']:.0%}); "
        f"cost of feeding: {figures['cost_share']:.2%}; the feed is {figures['feed_to_peer']:.1f} times the best peer"
    )


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    add_network_arguments(parser)
    parser.add_argument("--batch", type=int, nargs="+", help="one table each: 32 on a CPU, 32 and 256 on a GPU")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--steps", type=int, default=40, help="measured in a round, default 40")
    parser.add_argument("--warm", type=int, default=5, help="unmeasured before them, default 5")
    parser.add_argument("--images", type=int, default=1000, help="PNGs to draw, default 1000")
    parser.add_argument("--eager", action="store_true", help="steps that are not compiled: slower, so easier to feed")
    arguments = parser.parse_args()
    setup = read_setup(arguments)
    figures: dict[str, Any] = {"machine": machine(setup.device), "setup": setup.described(), "batches": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = draw_pictures(folder, arguments.images, setup.size)
        for batch in arguments.batch or ([32, 256] if setup.device.type == "cuda" else [32]):
            found = measure(pictures, setup, batch, folder / str(batch), arguments)
            figures["batches"][str(batch)] = found
            show(batch, found)
            write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
