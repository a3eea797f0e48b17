"""Training images a second, next to diffusers' training loop with the same network, resolution and batch.

    python benchmarks/training_speed.py --json training_speed.json
    python benchmarks/training_speed.py --device cuda --batch 32 256 --profile

The peer is the loop of diffusers' examples/unconditional_image_generation/train_unconditional.py: Accelerator, HF
datasets, DataLoader, DDPMScheduler, AdamW, cosine learning rate, gradient clip, no EMA (off by default there). Once
at its defaults (float32, no workers, PNGs of about 130 px resized on the fly), once at its best documented flags
(mixed precision, workers, PNGs resized beforehand; the fastest of 0, 1 and as many workers as cores, found first).
Ours is what `train` runs: memory map, keyed noise, flips, clip, Adam, EMA, bfloat16; eager and compiled. All have the
same UNet2DModel with two classes, and all are told the class.

All run in one process and take turns, each with a few steps unmeasured first in every round. Ratios are medians over
the rounds. Compiling starts from an empty cache and is told apart.

The roofline is a lower bound of a step's time: the larger of the model's FLOPs (forward and backward, PyTorch's
FlopCounterMode) at the rate of a large matrix product on this device, and of the bytes that must move at the rate of
a large copy. Bytes: every convolution, matrix product and attention reads its inputs and writes its outputs once, in
mixed precision; the optimizer reads five and writes four float32 numbers a weight (weight, gradient, two moments,
average); all else is taken to cost nothing.
"""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import contextlib
import io
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
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
    need_peer,
    print_table,
    ratio,
    read_setup,
    status,
    synchronize,
    training_parameters,
    write_json,
)
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from tqdm.auto import tqdm

from malaria_diffusion.compute.device import resolve_precision
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.training.data import Batch, TrainingData
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.trainer import LOG_STEPS, Trainer

NAMES = {
    "peer_default": "diffusers, defaults",
    "peer_best": "diffusers, best flags",
    "peer_compiled": "diffusers, best flags, compiled",
    "ours_eager": "ours",
    "ours_compiled": "ours, compiled",
}
HEAVY = ("convolution", "mm", "scaled_dot_product")  # in the names of operations that cannot be fused into others
NUMBERS_PER_WEIGHT = 9
TRIAL_STEPS = 10
NOWHERE = io.StringIO()  # progress bars are part of both loops, but not to be seen


class Contestant(Protocol):
    """Something that trains."""

    losses: list[float]

    def ready(self) -> contextlib.AbstractContextManager[None]:
        """Start what needs starting, and stop it afterwards."""

    def train(self, steps: int) -> None:
        """Train on."""


class Ours:
    """The project's training, as `train` runs it."""

    def __init__(self, data: TrainingData, setup: Setup, batch: int, compiled: bool, folder: Path) -> None:
        parameters = training_parameters(setup, batch, compile=compiled)
        self.run = Trainer(data, PROCESS, setup.network, parameters, folder)
        self.losses: list[float] = []
        self._bar = tqdm(file=NOWHERE, unit="image")

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Always."""
        yield

    def train(self, steps: int) -> None:
        """Train, reading the loss as often as `train` does, and at the end."""
        for _ in range(steps):
            self.run.one_step()
            self._bar.update(self.run.parameters.batch_size)
            if self.run.step % LOG_STEPS == 0:
                self._record()
        if self.run.loss_count:
            self._record()

    def _record(self) -> None:
        self.losses.append(self.run.record(end_of_epoch=False))
        self._bar.set_postfix(loss=self.losses[-1])

    def close(self) -> None:
        """Stop the feed."""
        self.run.feed.close()


class Peer:
    """The training loop of diffusers' example; without a folder of images it has none, and is given batches."""

    def __init__(
        self,
        folder: Path | None,
        setup: Setup,
        batch: int,
        cache: Path,
        mixed: bool = False,
        workers: int = 0,
        compiled: bool = False,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler

        AcceleratorState._reset_state(reset_partial_state=True)  # one process holds several, in different precisions
        self.accelerator = Accelerator(
            mixed_precision="bf16" if mixed else "no",
            cpu=setup.device.type == "cpu",
            dynamo_backend="inductor" if compiled else "no",
        )
        self.dtype = torch.bfloat16 if mixed else torch.float32
        self.batch, self.workers = batch, workers
        self.dataset = image_dataset(folder, setup.size, cache) if folder else None
        network = build_network(setup.network, setup.size, num_classes=2)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        total = NLM_CELLS // batch * 100
        rates = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=total)
        self.network, self.optimizer, self.rates = self.accelerator.prepare(network, optimizer, rates)
        self.noiser = DDPMScheduler(num_train_timesteps=PROCESS.timesteps, beta_schedule="linear")
        self.losses: list[float] = []
        self._loaders: dict[int, Any] = {}
        self._batches: Iterator[dict[str, Tensor]] = iter(())
        self._bar = tqdm(file=NOWHERE)

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Start the DataLoader's workers, and end them afterwards: idle ones would take the others' cores."""
        if self.workers not in self._loaders:
            loader = DataLoader(self.dataset, batch_size=self.batch, shuffle=True, num_workers=self.workers)
            self._loaders[self.workers] = self.accelerator.prepare(loader)
        loader = self._loaders[self.workers]
        self._batches = iter(loader)
        try:
            yield
        finally:
            self._batches = iter(())
            loader.end()

    def train(self, steps: int) -> None:
        """Train, reading the loss at each step as the example does."""
        self.network.train()
        for _ in range(steps):
            self.step(next(self._batches))

    def step(self, batch: dict[str, Tensor]) -> None:
        """One step on images in [-1, 1]."""
        images = batch["input"].to(self.dtype)
        noise = torch.randn(images.shape, dtype=self.dtype, device=images.device)
        t = torch.randint(0, PROCESS.timesteps, (len(images),), device=images.device)
        noisy = self.noiser.add_noise(images, noise, t)
        with self.accelerator.accumulate(self.network):
            output = self.network(noisy, t, class_labels=batch["label"]).sample
            loss = F.mse_loss(output.float(), noise.float())
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            self.rates.step()
            self.optimizer.zero_grad()
        self.losses.append(loss.detach().item())
        self._bar.update()
        self._bar.set_postfix(loss=self.losses[-1], lr=self.rates.get_last_lr()[0], step=len(self.losses))

    def choose_workers(self, device: torch.device) -> dict[int, float]:
        """Take the number of workers with which it is fastest; seconds of a few steps with each."""
        seconds: dict[int, float] = {}
        for workers in sorted({0, 1, cores()}):
            self.workers = workers
            seconds[workers] = timed(self, TRIAL_STEPS, TRIAL_STEPS // 2, device)
        self.workers = min(seconds, key=seconds.__getitem__)
        return seconds


def image_dataset(folder: Path, size: int, cache: Path) -> Any:
    """HF dataset of the PNGs in `folder`, again and again to the length of a real epoch, resized when it is read."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    found = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(cache), split="train")
    augment = transforms.Compose(
        [
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )

    def transform(examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {"input": [augment(image.convert("RGB")) for image in examples["image"]], "label": examples["label"]}

    repeated = datasets.concatenate_datasets([found] * math.ceil(NLM_CELLS / len(found)))
    repeated.set_transform(transform)
    return repeated


def timed(contestant: Contestant, steps: int, warm: int, device: torch.device) -> float:
    """Seconds of `steps` steps after some that are not measured."""
    with contestant.ready():
        contestant.train(warm)
        synchronize(device)
        start = time.perf_counter()
        contestant.train(steps)
        synchronize(device)
        return time.perf_counter() - start


class Traffic(TorchDispatchMode):
    """Sum of the bytes that operations which cannot be fused read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if any(name in func.overloadpacket.__name__ for name in HEAVY):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.nbytes for tensor in tensors)
        return output


class Cost(NamedTuple):
    """What a step must at least do."""

    flops: float
    bytes: float


def step_cost(setup: Setup, batch: int) -> Cost:
    """FLOPs of forward and backward, and bytes moved; see the top of this file."""
    precision = resolve_precision(setup.precision, setup.device)
    objective = Objective(PROCESS, setup.network, training_parameters(setup, batch), setup.size, 2, precision)
    objective = objective.to(setup.device, memory_format=torch.channels_last)
    shape = (batch, 3, setup.size, setup.size)
    zeros = torch.zeros(batch, dtype=torch.int64)
    samples = Batch(torch.zeros(shape, dtype=torch.uint8), zeros, zeros, torch.zeros(shape)).to(setup.device)
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        objective(samples).mean().backward()
    weights = sum(weight.numel() for weight in objective.parameters())
    return Cost(flops.get_total_flops(), traffic.bytes + 4 * NUMBERS_PER_WEIGHT * weights)


def matmul_rate(setup: Setup, side: int) -> Callable[[], float]:
    """FLOP/s of a product of large square matrices."""
    a, b = (torch.randn(side, side, device=setup.device, dtype=getattr(torch, setup.precision)) for _ in range(2))
    return lambda: 2 * side**3 / best_seconds(lambda: a @ b, setup.device)


def copy_rate(setup: Setup, mib: int) -> Callable[[], float]:
    """Bytes read and written a second by a copy of a large tensor."""
    a = torch.ones(mib * 2**20, dtype=torch.uint8, device=setup.device)
    b = torch.ones_like(a)
    return lambda: 2 * a.nbytes / best_seconds(lambda: b.copy_(a), setup.device)


def best_seconds(work: Callable[[], Any], device: torch.device, times: int = 5) -> float:
    """Of several, after one that is not counted."""
    found = []
    for _ in range(times + 1):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def measure(pictures: Pictures, setup: Setup, batch: int, folder: Path, arguments: Any) -> dict[str, Any]:
    """All figures of one batch size."""
    torch.compiler.reset()  # what was compiled for another batch size
    device = setup.device
    contestants: dict[str, Contestant] = {}
    trial: dict[int, float] = {}
    compile_seconds: dict[str, float] = {}
    if arguments.peer:
        mixed = setup.precision == "bfloat16"
        contestants["peer_default"] = Peer(pictures.original, setup, batch, folder / "cache")
        best = contestants["peer_best"] = Peer(pictures.small, setup, batch, folder / "cache", mixed)
        status("finding the peer's best number of workers")
        trial = best.choose_workers(device)
        if arguments.compile_peer:
            contestants["peer_compiled"] = Peer(
                pictures.small, setup, batch, folder / "cache", mixed, best.workers, compiled=True
            )
    ours = {
        "ours_eager": Ours(pictures.data, setup, batch, False, folder / "eager"),
        "ours_compiled": Ours(pictures.data, setup, batch, True, folder / "compiled"),
    }
    contestants |= ours
    for name in contestants.keys() & {"ours_compiled", "peer_compiled"}:
        status(f"compiling: {NAMES[name]}")
        first, usual = timed(contestants[name], 2, 0, device), timed(contestants[name], 2, 0, device)
        compile_seconds[name] = max(0.0, first - usual)

    works: dict[str, Callable[[], float]] = {
        name: lambda one=one: timed(one, arguments.steps, arguments.warm, device) for name, one in contestants.items()
    }
    works["matmul"] = matmul_rate(setup, arguments.matmul_side)
    works["copy"] = copy_rate(setup, arguments.copy_mib)
    before = {name: len(one.losses) for name, one in contestants.items()}
    found = interleave(works, arguments.rounds, f"batches of {batch}")
    rates = {name: found.pop(name) for name in ("matmul", "copy")}
    if arguments.profile:
        print_profile(ours["ours_compiled"], device)
    for one in ours.values():
        one.close()

    speeds = {name: [batch * arguments.steps / seconds for seconds in found[name]] for name in contestants}
    cost = step_cost(setup, batch)
    bounds = [max(cost.flops / m, cost.bytes / c) for m, c in zip(rates["matmul"], rates["copy"], strict=True)]
    step_seconds = {name: [seconds / arguments.steps for seconds in found[name]] for name in contestants}
    figures: dict[str, Any] = {
        "images_per_second": medians(speeds),
        "rounds": speeds,
        "compile_seconds": compile_seconds["ours_compiled"],
        "losses": {name: ends(one.losses[before[name] :], arguments.rounds) for name, one in contestants.items()},
        "roofline": {
            "flops_per_step": cost.flops,
            "bytes_per_step": cost.bytes,
            "matmul_flops_per_second": statistics.median(rates["matmul"]),
            "copy_bytes_per_second": statistics.median(rates["copy"]),
            "seconds_per_step": statistics.median(bounds),
        },
        "fraction_of_roofline": {name: ratio(bounds, seconds) for name, seconds in step_seconds.items()},
    }
    figures["losses_fall"] = all(last < first for first, last in figures["losses"].values())
    for peer, short in (("peer_default", "default"), ("peer_best", "best"), ("peer_compiled", "compiled_peer")):
        if peer in contestants:
            figures[f"ratio_to_{short}"] = ratio(speeds["ours_compiled"], speeds[peer])
            figures[f"eager_ratio_to_{short}"] = ratio(speeds["ours_eager"], speeds[peer])
    if trial:
        figures["peer_workers"] = contestants["peer_best"].workers
        figures["peer_trial_seconds"] = trial
    if "peer_compiled" in compile_seconds:
        figures["peer_compile_seconds"] = compile_seconds["peer_compiled"]
    return figures


def ends(losses: list[float], rounds: int) -> tuple[float, float]:
    """Mean loss of the first and of the last round."""
    part = max(1, len(losses) // rounds)
    return float(np.mean(losses[:part])), float(np.mean(losses[-part:]))


def print_profile(ours: Ours, device: torch.device) -> None:
    """The operations that take most of our compiled steps."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities) as profiler:
        ours.train(5)
        synchronize(device)
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=60))


def show(batch: int, figures: dict[str, Any]) -> None:
    """Print one batch size's table."""
    speeds, roofline = figures["images_per_second"], figures["roofline"]
    peers = [name for name in ("peer_default", "peer_best") if name in speeds]
    rows: dict[str, list[float | str | None]] = {}
    for name, speed in speeds.items():
        ratios = [ratio(figures["rounds"][name], figures["rounds"][peer]) for peer in peers]
        rows[NAMES[name]] = [speed, *ratios, figures["fraction_of_roofline"][name], *figures["losses"][name]]
    columns = ["images/s", *(f"to {NAMES[peer].split(', ')[1]}" for peer in peers), "of roofline", "first loss", "last"]
    print_table(f"batches of {batch}", columns, rows)
    if "peer_workers" in figures:
        print(f"the peer's best number of workers: {figures['peer_workers']}")
    print(f"compiling ours: {figures['compile_seconds']:.1f} s once, not in the above")
    print(
        f"roofline: {roofline['seconds_per_step'] * 1e3:.2f} ms a step, from {roofline['flops_per_step'] / 1e9:.1f} "
        f"GFLOP at {roofline['matmul_flops_per_second'] / 1e12:.3g} TFLOP/s and {roofline['bytes_per_step'] / 1e9:.3g} "
        f"GB at {roofline['copy_bytes_per_second'] / 1e9:.3g} GB/s"
    )
    if not figures["losses_fall"]:
        print("WARNING: a loss did not fall; with few steps that is chance, with many something is broken")


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    add_network_arguments(parser)
    parser.add_argument("--batch", type=int, nargs="+", help="one table each: 32 on a CPU, 32 and 256 on a GPU")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--steps", type=int, default=20, help="measured in a round, default 20")
    parser.add_argument("--warm", type=int, default=5, help="unmeasured before them, default 5")
    parser.add_argument("--images", type=int, default=1000, help="PNGs to draw, default 1000")
    parser.add_argument("--matmul-side", type=int, default=None, help="roofline: 2048 on a CPU, 8192 on a GPU")
    parser.add_argument("--copy-mib", type=int, default=None, help="roofline: 256 on a CPU, 2048 on a GPU")
    parser.add_argument("--profile", action="store_true", help="also print what our compiled steps consist of")
    parser.add_argument("--compile-peer", action="store_true", help="also the peer compiled by Accelerate (inductor)")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="ours alone; needs no further package")
    arguments = parser.parse_args()
    if arguments.peer:
        need_peer("accelerate", "datasets")
    setup = read_setup(arguments)
    on_gpu = setup.device.type == "cuda"
    arguments.matmul_side = arguments.matmul_side or (8192 if on_gpu else 2048)
    arguments.copy_mib = arguments.copy_mib or (2048 if on_gpu else 256)
    figures: dict[str, Any] = {"machine": machine(setup.device), "setup": setup.described(), "batches": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")  # so that compiling is really measured
        pictures = draw_pictures(folder, arguments.images, setup.size)
        for batch in arguments.batch or ([32, 256] if on_gpu else [32]):
            found = measure(pictures, setup, batch, folder / str(batch), arguments)
            figures["batches"][str(batch)] = found
            show(batch, found)
            if not np.isfinite(list(found["losses"].values())).all():
                sys.exit("a loss is not finite: the speeds above mean nothing")
            write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
