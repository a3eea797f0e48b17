"""Training speed beside another busy process: threads that wait passively, as shipped, that spin, and one thread.

    python benchmarks/contention.py --json contention.json

Threads of OpenMP that come early to the end of a loop wait for the others there. libgomp, which PyTorch brings, lets
them spin for 300,000 rounds (its default, here asked for by GOMP_SPINCOUNT); the package asks for a thousand, then
sleep. One thread waits for nobody. Every way is a process of its own, as OpenMP reads its variables once, and they take
turns; beside means beside one process that counts for ever. Ratios are medians over the rounds.
"""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from common import SMALL, interleave, machine, make_parser, medians, print_table, ratio, write_json

SPINNING = {"GOMP_SPINCOUNT": "300000"}
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# the package first: it says how to wait before torch is loaded
CHILD = """
import malaria_diffusion
import sys
sys.path.insert(0, sys.argv[1])
from contention import train
train(*map(int, sys.argv[2:]))
"""


def train(steps: int, threads: int, batch_size: int) -> None:
    """Print the training images a second of a small network in this process, alone and beside a busy process."""
    from common import PROCESS, Setup, training_parameters

    from malaria_diffusion.compute.device import resolve_precision
    from malaria_diffusion.diffusion.training.data import Batch
    from malaria_diffusion.diffusion.training.objective import Objective
    from malaria_diffusion.diffusion.training.optimizer import build_optimizer

    torch.set_num_threads(threads)
    device = torch.device("cpu")
    precision = resolve_precision("auto", device)
    setup = Setup(device, 32, SMALL, str(precision).removeprefix("torch."))
    parameters = training_parameters(setup, batch=batch_size)
    objective = Objective(PROCESS, SMALL, parameters, 32, 2, precision).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(objective, parameters)
    images, each = torch.randint(0, 256, (batch_size, 3, 32, 32), dtype=torch.uint8), torch.arange(batch_size)
    batch = Batch(images, each % 2, each * 960 // batch_size, torch.randn(images.shape))

    def speed() -> float:
        start = 0.0
        for step in range(2 + steps):
            if step == 2:
                start = time.perf_counter()
            optimizer.zero_grad()
            objective(batch).mean().backward()
            optimizer.step()
        return steps * batch_size / (time.perf_counter() - start)

    alone = speed()
    with _busy():
        print(json.dumps({"alone": alone, "beside": speed()}))


def measure(environment: dict[str, str], steps: int, threads: int, batch: int) -> dict[str, float]:
    """Images a second of a fresh process, alone and beside a busy one."""
    inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(steps), str(threads), str(batch)]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    counting = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        counting.kill()
        counting.wait()


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=10, help="timed in a process, default 10")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="default 16")
    arguments = parser.parse_args()
    threads = arguments.threads or 2
    ways = {"as shipped": ({}, threads), "spinning": (SPINNING, threads), "one thread": ({}, 1)}
    works = {
        how: functools.partial(measure, variables, arguments.steps, each, arguments.batch)
        for how, (variables, each) in ways.items()
    }
    measured = interleave(works, arguments.rounds, "processes")
    speeds = {
        f"{how}, {where}": [found[where] for found in rounds]
        for where in ("alone", "beside")
        for how, rounds in measured.items()
    }
    found = {
        f"{how}, {where}": ratio(speeds[f"as shipped, {where}"], speeds[f"{how}, {where}"])
        for where in ("alone", "beside")
        for how in ("spinning", "one thread")
    }
    told = medians(speeds)
    print_table("training", ["images/s"], {name: [value] for name, value in told.items()})
    print_table("as shipped over", ["ratio"], {name: [value] for name, value in found.items()})
    write_json(
        arguments.json,
        {
            "machine": machine(torch.device("cpu")),
            "threads": threads,
            "images_per_second": told,
            "as_shipped_over": found,
        },
    )


if __name__ == "__main__":
    main()
