"""Peak memory of training and sampling, each in a fresh process.

    python benchmarks/memory.py --json memory.json
    python benchmarks/memory.py --device cuda --batch 256

Training: the project's, a batch as a whole and in four parts (accumulation), beside diffusers' training loop at its
defaults (see training_speed.py) with the same network, resolution and batch. Sampling: a few hundred images and many,
with a tiny network and few evaluations, in batches of 64: but for the images that are returned, many must need no more
than few.

On a CPU the figures are peak resident memory of the process, imports included, and the same without what it was after
the imports; on a GPU also the most that PyTorch allocated there. Ratios are of the former on a CPU, of the last on a
GPU; sampling_ratio_without_output is of resident memory on both.
"""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import (
    PROCESS,
    Setup,
    add_network_arguments,
    draw_pictures,
    machine,
    make_parser,
    need_peer,
    open_pictures,
    peak_mib,
    print_table,
    read_setup,
    run_fresh,
    training_parameters,
    write_json,
)
from tqdm.auto import tqdm

from malaria_diffusion.diffusion.config import Clipping, NetworkParameters, SamplingParameters, Solver, Variance
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.sampling import Denoiser, sample
from malaria_diffusion.diffusion.training.trainer import Trainer

TINY = NetworkParameters(channels=[16, 16], layers_per_block=1, attention_sides=[], norm_groups=8, dropout=0.0)
EVALUATIONS = 4
BATCH = 64


class Peak(NamedTuple):
    """Largest memory in MiB.

    Attributes:
        imports: Resident, once all was imported.
        resident: Resident, in the end.
        device: Allocated on the GPU; None without one.
    """

    imports: float
    resident: float
    device: float | None


def peak_of(work: Callable[..., None], setup: Setup, threads: int, *arguments: Any) -> Peak:
    """Of this process, before and after `work`."""
    torch.set_num_threads(threads)
    if work is train_peer:
        importlib.import_module("training_speed")  # in which the peer is, with all that it needs
        need_peer("accelerate", "datasets")
    imports = peak_mib()
    work(setup, *arguments)
    on_device = torch.cuda.max_memory_allocated(setup.device) / 2**20 if setup.device.type == "cuda" else None
    return Peak(imports, peak_mib(), on_device)


def train(setup: Setup, folder: Path, batch: int, accumulation: int, steps: int) -> None:
    """Take `steps` steps of our training."""
    parameters = training_parameters(setup, batch, accumulation=accumulation)
    data = open_pictures(folder).data
    with tempfile.TemporaryDirectory() as name, Trainer(data, PROCESS, setup.network, parameters, Path(name)) as run:
        for _ in range(steps):
            run.one_step()
        run.record(end_of_epoch=False)


def train_peer(setup: Setup, folder: Path, batch: int, mixed: bool, steps: int) -> None:
    """Take `steps` steps of diffusers' training loop."""
    from training_speed import Peer  # brings torchvision, which ours does without

    with tempfile.TemporaryDirectory() as name:
        peer = Peer(open_pictures(folder).original, setup, batch, Path(name), mixed)
        with peer.ready():
            peer.train(steps)


def generate(setup: Setup, count: int) -> None:
    """Generate `count` images."""
    network = build_network(TINY, setup.size, num_classes=2)
    parameters = SamplingParameters(
        count=1,
        seed=0,
        solver=Solver.DPM_SOLVER,
        evaluations=EVALUATIONS,
        variance=Variance.BETA_TILDE,
        clipping=Clipping.STATIC,
        guidance=1.0,
        batch_size=BATCH,
        precision="float32",
        device=setup.device.type,
    )
    labels = np.arange(count) % 2
    sample(
        Denoiser(network, GaussianDiffusion.from_parameters(PROCESS), setup.size), labels, parameters, progress=False
    )


def measure(setup: Setup, folder: Path, arguments: Any) -> dict[str, Any]:
    """All figures."""
    threads, batch, steps = torch.get_num_threads(), arguments.batch, arguments.steps
    few, many = arguments.sampled
    works: dict[str, tuple[Any, ...]] = {
        "training_accumulation_1": (train, folder, batch, 1, steps),
        "training_accumulation_4": (train, folder, batch, 4, steps),
        "sampling_few": (generate, few),
        "sampling_many": (generate, many),
    }
    if arguments.peer:
        works["peer_training"] = (train_peer, folder, batch, False, steps)
        works["peer_training_mixed"] = (train_peer, folder, batch, True, steps)
    peaks: dict[str, Peak] = {}
    with tqdm(works.items(), desc="fresh processes", unit="process") as bar:
        for name, work in bar:
            bar.set_postfix_str(name)
            peaks[name] = run_fresh(peak_of, work[0], setup, threads, *work[1:])
    output = {
        "sampling_few": few * 3 * setup.size**2 / 2**20,
        "sampling_many": many * 3 * setup.size**2 / 2**20,
    }
    without = {name: peaks[name].resident - output[name] for name in output}
    figures: dict[str, Any] = {
        "peak_mib": {name: peak.resident for name, peak in peaks.items()},
        "above_imports_mib": {name: peak.resident - peak.imports for name, peak in peaks.items()},
        "sampled_images": {"sampling_few": few, "sampling_many": many},
        "output_mib": output,
        "sampling_ratio_without_output": without["sampling_many"] / without["sampling_few"],
    }
    if setup.device.type == "cuda":
        figures["device_peak_mib"] = {name: peak.device for name, peak in peaks.items()}
    own = figures.get("device_peak_mib", figures["peak_mib"])
    figures["accumulation_ratio"] = own["training_accumulation_4"] / own["training_accumulation_1"]
    if arguments.peer:
        figures["ratio_to_peer"] = own["training_accumulation_1"] / own["peer_training"]
        figures["ratio_to_peer_mixed"] = own["training_accumulation_1"] / own["peer_training_mixed"]
    return figures


def show(figures: dict[str, Any], batch: int) -> None:
    """Print the table."""
    sampled = figures["sampled_images"]
    names = {
        "training_accumulation_1": f"training, batches of {batch}",
        "training_accumulation_4": "the same in four parts",
        "peer_training": f"diffusers' loop, float32, batches of {batch}",
        "peer_training_mixed": f"diffusers' loop, bfloat16, batches of {batch}",
        "sampling_few": f"sampling {sampled['sampling_few']:,} images",
        "sampling_many": f"sampling {sampled['sampling_many']:,} images",
    }
    columns = ["peak MiB", "above imports", "of which images"] + ["on the GPU"] * ("device_peak_mib" in figures)
    rows: dict[str, list[float | str | None]] = {}
    for name, told in names.items():
        if name in figures["peak_mib"]:
            rows[told] = [figures[key].get(name) for key in ("peak_mib", "above_imports_mib", "output_mib")]
            rows[told] += [figures["device_peak_mib"][name]] if "device_peak_mib" in figures else []
    print_table("", columns, rows)
    print(f"sampling many to few, without the images: {figures['sampling_ratio_without_output']:.3f}")
    if "ratio_to_peer" in figures:
        print(
            f"training to diffusers' loop: {figures['ratio_to_peer']:.2f} (float32), "
            f"{figures['ratio_to_peer_mixed']:.2f} (bfloat16)"
        )


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    add_network_arguments(parser)
    parser.add_argument("--batch", type=int, help="a multiple of four: 32 on a CPU, 256 on a GPU")
    parser.add_argument("--steps", type=int, default=10, help="training steps, default 10")
    parser.add_argument("--images", type=int, default=200, help="PNGs to draw, default 200")
    parser.add_argument(
        "--sampled", type=int, nargs=2, default=[256, 10_000], metavar=("FEW", "MANY"), help="images: 256 10000"
    )
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="ours alone; needs no further package")
    arguments = parser.parse_args()
    if arguments.peer:
        need_peer("accelerate", "datasets")
    setup = read_setup(arguments)
    arguments.batch = arguments.batch or (256 if setup.device.type == "cuda" else 32)
    with tempfile.TemporaryDirectory() as name:
        draw_pictures(Path(name), arguments.images, setup.size)
        found = measure(setup, Path(name), arguments)
    show(found, arguments.batch)
    figures = {"machine": machine(setup.device), "setup": setup.described() | {"batch": arguments.batch}} | found
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
