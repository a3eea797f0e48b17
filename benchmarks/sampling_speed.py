"""How few evaluations the fast solvers need to be as good as the 1,000-step ancestral sampler, and how much faster.

    python benchmarks/sampling_speed.py --work sampling_speed --figure sampling_speed.png --json sampling_speed.json

Quality is the kernel distance (see `QualityMeasure`) of class-balanced generated images to cells of
validation people (split "val": a solver is a choice, and the people that test choose nothing), for five seeds. The
floor is that of as many training people's cells, drawn with the same seeds, to the same held-out ones: what the best
imaginable model of the training people would reach. If the ancestral sampler itself is further away than three floors,
the weights are too bad for the curve to mean something.

`evaluations_equal` is a solver's smallest number of evaluations that is shown to be as good: from the same seeds its
distance is at most 1.25 times the ancestral sampler's, by the upper end of a one-sided 95 % t-interval over the seeds.
Noise makes it harder, not easier, to be as good. Intervals in the table are mean +- t-interval (95 %) over the seeds.

Speed: the network's evaluations cost the same at every step, so the ancestral sampler is timed over some of its steps
and the time is scaled to all; the fast ones generate whole images. They take turns, and so does the peer, a loop over
diffusers' DDPMScheduler and the same network as from_pretrained gives it, in float32 and in bfloat16.

What was generated is kept in --work, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import malaria_diffusion  # noqa: F401  (before torch, as it says how threads wait)

# isort: split
import argparse
import functools
import hashlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from common import interleave, machine, make_parser, medians, prepare, print_table, ratio, synchronize, write_json
from diffusers import DDPMScheduler, UNet2DModel
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats
from tqdm.auto import tqdm

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.diffusion.config import Clipping, SamplingParameters, Solver, Variance
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.diffusion.sampling import reverse_states
from malaria_diffusion.diffusion.training.quality import QualityMeasure
from malaria_diffusion.errors import UserError
from malaria_diffusion.figures.style import FLOOR, REAL, new_figure
from malaria_diffusion.files import whole, write_array

FAST = [Solver.DDIM, Solver.DPM_SOLVER, Solver.SDE_DPM_SOLVER, Solver.UNIPC]
EVALUATIONS = [4, 6, 8, 10, 15, 20, 30, 50]
MARGIN = 0.25  # of the ancestral sampler's distance, up to which a solver counts as good as it
REFERENCE_CELLS = 2000
TYPICAL_CELLS = 4000
SUSPICIOUS = 3.0
COLORS = dict(zip(FAST, ["#d95f02", "#1b9e77", "#e7298a", "#7570b3"], strict=True))


class Setting(NamedTuple):
    """One way to generate; without a number of evaluations the ancestral one."""

    solver: Solver
    evaluations: int | None

    @property
    def name(self) -> str:
        """For files and messages."""
        return f"{self.solver.value}_{self.evaluations}" if self.evaluations else self.solver.value


class Cells(NamedTuple):
    """Real cells, uint8 (N, 3, S, S).

    Attributes:
        held_out: Of people never trained on, as many of each class.
        typical: Training people's, which say what is usual.
        floors: For each seed as many training people's cells as are generated.
    """

    held_out: NDArray[np.uint8]
    typical: NDArray[np.uint8]
    floors: list[NDArray[np.uint8]]


def sampling_parameters(setting: Setting, seed: int, arguments: argparse.Namespace) -> SamplingParameters:
    """For one set."""
    return SamplingParameters(
        count=1,
        seed=seed,
        solver=setting.solver,
        evaluations=setting.evaluations,
        variance=Variance.BETA_TILDE,
        clipping=Clipping.STATIC,
        guidance=1.0,
        batch_size=arguments.batch,
        precision=arguments.precision,
        device=arguments.device,
    )


def read_cells(model: DiffusionModel, arguments: argparse.Namespace) -> Cells:
    """Held-out and training people's cells.

    Raises:
        UserError: they are not of the model's size or classes, too few, or the model was trained on held-out people.
    """
    lineage = model.lineage
    cells, table = np.load(arguments.cells, mmap_mode="r"), pd.read_parquet(arguments.table)
    if len(cells) != len(table) or cells.shape[-1] != lineage.size:
        raise UserError(
            f"{arguments.cells}: {cells.shape}, expected {len(table)} cells ({arguments.table}) of {lineage.size} px"
        )
    if sorted(table["label"].unique()) != sorted(lineage.class_names):
        raise UserError(f"{arguments.table}: other classes than the model's, {lineage.class_names}")
    held_out = table["split"] == "val"
    shared = set(table.loc[held_out, "person"]) & set(lineage.training_people)
    if shared:
        raise UserError(f"the model was trained on people of the split val: {', '.join(sorted(shared)[:5])}")

    def draw(mask: pd.Series, count: int, seed: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        rows = [np.flatnonzero(mask & (table["label"] == label)) for label in lineage.class_names]
        chosen = [rng.choice(of_class, count, replace=False) for of_class in rows]
        return np.asarray(cells[np.sort(np.concatenate(chosen))])

    per_class = arguments.images // len(lineage.class_names)
    available = int(table.loc[held_out, "label"].value_counts().min())
    trained_on = training_rows(table)
    if table.loc[trained_on, "label"].value_counts().min() < per_class:
        raise UserError(f"{arguments.table}: fewer than {per_class} training cells in a class; lower --images")
    reference = draw(held_out, min(available, REFERENCE_CELLS // len(lineage.class_names)), 0)
    scarcest = int(table.loc[trained_on, "label"].value_counts().min())
    typical = draw(trained_on, min(scarcest, TYPICAL_CELLS // len(lineage.class_names)), arguments.seeds)
    return Cells(reference, typical, [draw(trained_on, per_class, seed) for seed in range(arguments.seeds)])


def generate(
    model: DiffusionModel, setting: Setting, seed: int, arguments: argparse.Namespace, key: str
) -> NDArray[np.uint8]:
    """A set of images, from the work folder if it is there."""
    path = arguments.work / f"{key}_{setting.name}_seed{seed}.npy"
    if path.exists():
        return np.load(path)
    parameters = sampling_parameters(setting, seed, arguments)
    images = model.sample(labels_of(model, arguments.images), parameters)
    with whole(path) as beside:
        write_array(beside, images)
    return images


def labels_of(model: DiffusionModel, count: int) -> NDArray[np.int64]:
    """As many of each class, class after class."""
    classes = len(model.lineage.class_names)
    return np.repeat(np.arange(classes), count // classes)


def interval(values: list[float]) -> dict[str, Any]:
    """Mean and half width of the 95 % t-interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": statistics.fmean(values), "half_width": float(half), "values": values}


def is_as_good(distances: list[float], ancestral: list[float]) -> bool:
    """Whether distances are at most 1 + MARGIN times the ancestral ones of the same seeds.

    The mean of the differences, by its one-sided 95 % bound: a ratio's would have no meaning near the floor.
    """
    over = np.array(distances) - (1 + MARGIN) * np.array(ancestral)
    return bool(over.mean() + stats.t.ppf(0.95, len(over) - 1) * over.std(ddof=1) / len(over) ** 0.5 <= 0)


def measure_quality(model: DiffusionModel, cells: Cells, arguments: argparse.Namespace, key: str) -> dict[str, Any]:
    """Distances of all sets."""
    measure = QualityMeasure(cells.held_out, cells.typical)
    settings = [Setting(solver, evaluations) for solver in FAST for evaluations in arguments.evaluations]
    settings.append(Setting(Solver.ANCESTRAL, None))
    distances: dict[Setting, list[float]] = {setting: [] for setting in settings}
    with tqdm(total=len(settings) * arguments.seeds, desc="sets of images", unit="set") as bar:
        for setting, seed in itertools.product(settings, range(arguments.seeds)):
            bar.set_postfix_str(f"{setting.name}, seed {seed}")
            distances[setting].append(measure.distance(generate(model, setting, seed, arguments, key)))
            bar.update()
    floor = interval([measure.distance(part) for part in cells.floors])
    ancestral = interval(distances.pop(settings[-1]))
    solvers: dict[str, dict[str, Any]] = {solver.value: {} for solver in FAST}
    equal: dict[str, int | None] = dict.fromkeys(solvers)
    for setting, values in distances.items():
        solvers[setting.solver.value][str(setting.evaluations)] = interval(values)
        if equal[setting.solver.value] is None and is_as_good(values, ancestral["values"]):
            equal[setting.solver.value] = setting.evaluations
    return {
        "floor": floor,
        "ancestral": ancestral,
        "solvers": solvers,
        "ancestral_to_floor": ancestral["mean"] / floor["mean"] if floor["mean"] > 0 else None,
        "evaluations_equal": equal,
    }


def measure_speed(
    model: DiffusionModel, equal: dict[str, int | None], device: torch.device, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Images a second of the fast solvers where they are good enough, of the ancestral one, and of the peer's loop."""
    count, timesteps = arguments.speed_images, model.diffusion.timesteps
    labels = labels_of(model, count)
    steps, warm = min(arguments.ancestral_steps, timesteps - 1), min(3, timesteps // 4)
    steps = min(steps, timesteps - warm)

    def seconds_of_steps(step: Callable[[], Any]) -> float:
        """Of all timesteps, from some of them."""
        for _ in range(warm):
            step()
        synchronize(device)
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        return (time.perf_counter() - start) * timesteps / steps

    def ancestral() -> float:
        parameters = sampling_parameters(Setting(Solver.ANCESTRAL, None), 0, arguments)
        with torch.no_grad():
            states = reverse_states(model.denoiser, labels, range(len(labels)), parameters)
            next(states)
            return seconds_of_steps(lambda: next(states))

    def fast(setting: Setting) -> float:
        parameters = sampling_parameters(setting, 0, arguments)
        start = time.perf_counter()
        model.sample(labels, parameters, progress=False)
        return time.perf_counter() - start

    works: dict[str, Callable[[], float]] = {"ancestral": ancestral}
    for solver, evaluations in equal.items():
        if evaluations is not None:
            works[solver] = functools.partial(fast, Setting(Solver(solver), evaluations))
    for name, dtype in {"peer_float32": torch.float32, "peer_bfloat16": torch.bfloat16}.items():
        works[name] = lambda dtype=dtype: seconds_of_steps(peer_loop(arguments.model, model, labels, device, dtype))
    for work in works.values():
        work()  # once unmeasured
    found = interleave(works, arguments.rounds, "timing")
    speeds = {name: [len(labels) / seconds for seconds in values] for name, values in found.items()}
    ours = [solver for solver in equal if solver in speeds]
    return {
        "images_per_second": medians(speeds),
        "ratio_to_ancestral": {s: ratio(speeds[s], speeds["ancestral"]) if s in ours else None for s in equal},
        "ancestral_ratio_to_peer": {
            name.removeprefix("peer_"): ratio(speeds["ancestral"], speeds[name]) for name in speeds if "peer" in name
        },
    }


def peer_loop(
    folder: Path, model: DiffusionModel, labels: NDArray[np.int64], device: torch.device, dtype: torch.dtype
) -> Callable[[], None]:
    """A function that takes the next step of diffusers' ancestral sampler."""
    network = UNet2DModel.from_pretrained(folder / "unet", local_files_only=True).to(device).eval()
    diffusion = model.diffusion
    scheduler = DDPMScheduler(
        num_train_timesteps=diffusion.timesteps,
        trained_betas=diffusion.schedule.betas.tolist(),
        prediction_type=diffusion.prediction.value,
    )
    scheduler.set_timesteps(diffusion.timesteps)
    classes = torch.from_numpy(labels).to(device)
    x_t = torch.randn(len(labels), 3, model.lineage.size, model.lineage.size, device=device)
    timesteps = iter(scheduler.timesteps)

    @torch.no_grad()
    def step() -> None:
        nonlocal x_t
        t = next(timesteps)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = network(x_t, t.to(device), class_labels=classes).sample
        x_t = scheduler.step(output, t, x_t).prev_sample

    return step


def draw(figures: dict[str, Any], phantom: bool) -> Figure:
    """Evaluations against kernel distance, with the ancestral sampler's band and the floor."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for solver in FAST:
        found = figures["solvers"][solver.value]
        axes.errorbar(
            [int(evaluations) for evaluations in found],
            [one["mean"] for one in found.values()],
            yerr=[one["half_width"] for one in found.values()],
            marker="o",
            capsize=3,
            color=COLORS[solver],
            label=solver.value,
        )
    for name, told, color in (("ancestral", "ancestral, all steps", REAL), ("floor", "training people's cells", FLOOR)):
        mean, half = figures[name]["mean"], figures[name]["half_width"]
        axes.axhline(mean, color=color, label=told)
        axes.axhspan(mean - half, mean + half, color=color, alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    ticks = sorted({int(evaluations) for found in figures["solvers"].values() for evaluations in found})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("network evaluations an image")
    axes.set_ylabel("kernel distance to held-out people's cells")
    axes.set_title(
        f"{figures['images']} images a seed, {figures['seeds']} seeds, 95 % intervals "
        f"({'phantom' if phantom else 'real'} cells)",
        fontsize=9,
    )
    axes.legend(fontsize=8)
    return figure


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    ancestral = figures["ancestral"]["mean"]
    rows: dict[str, list[float | str | None]] = {}
    named = {"floor: training people's cells": figures["floor"], "ancestral": figures["ancestral"]}
    for solver, found in figures["solvers"].items():
        named |= {f"{solver}, {evaluations} evaluations": one for evaluations, one in found.items()}
    for name, one in named.items():
        rows[name] = [one["mean"], one["half_width"], one["mean"] / ancestral if ancestral else None]
    print_table("kernel distance to held-out people's cells", ["mean", "+-", "to ancestral"], rows)
    factor = figures["ancestral_to_floor"]
    print(f"ancestral to floor: {f'{factor:.2f}' if factor is not None else 'the floor is not above zero'}")
    if factor is None or factor > SUSPICIOUS:
        print(
            "WARNING: weights not good enough for the curve to mean something: the ancestral sampler is more than "
            f"{SUSPICIOUS:g} floors from the held-out cells"
        )
    speeds, equal = figures["images_per_second"], figures["evaluations_equal"]
    rows = {"ancestral, all steps": [speeds["ancestral"], 1.0]}
    for solver, evaluations in equal.items():
        if evaluations is None:
            rows[f"{solver}: at no number as good"] = [None, None]
        else:
            rows[f"{solver}, {evaluations} evaluations"] = [speeds[solver], figures["ratio_to_ancestral"][solver]]
    for name, factor in figures["ancestral_ratio_to_peer"].items():
        rows[f"diffusers' loop, all steps, {name}"] = [speeds[f"peer_{name}"], 1 / factor]
    print_table("speed where as good", ["images/s", "to ancestral"], rows)


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path("data/06_models/ddpm"), help="default data/06_models/ddpm")
    parser.add_argument("--cells", type=Path, default=Path("data/03_primary/cells.npy"), help="packed cells")
    parser.add_argument("--table", type=Path, default=Path("data/03_primary/cell_table.parquet"), help="their table")
    parser.add_argument("--work", type=Path, required=True, help="folder where generated images are kept")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the curve into this file")
    parser.add_argument("--images", type=int, default=500, help="of each seed, over all classes; default 500")
    parser.add_argument("--seeds", type=int, default=5, help="at least two; default 5")
    parser.add_argument("--evaluations", type=int, nargs="+", default=EVALUATIONS, help="default %(default)s")
    parser.add_argument("--batch", type=int, default=250, help="images at once; default 250")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="default auto")
    parser.add_argument("--speed-images", type=int, default=64, help="images timed, default 64")
    parser.add_argument("--ancestral-steps", type=int, default=20, help="timed of the ancestral sampler, default 20")
    parser.add_argument("--rounds", type=int, default=5, help="of the timing, default 5")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds must be at least 2, or there is no interval")
    device = prepare(arguments)
    arguments.device = device.type
    arguments.evaluations = sorted(set(arguments.evaluations))
    try:
        model = DiffusionModel.load(arguments.model)
        classes = len(model.lineage.class_names)
        arguments.images -= arguments.images % classes
        arguments.speed_images = max(classes, arguments.speed_images - arguments.speed_images % classes)
        cells = read_cells(model, arguments)
        arguments.work.mkdir(parents=True, exist_ok=True)
        # the same model, precision and number of images; the lineage names the weights by their sha256
        told = (
            arguments.model / "lineage.json"
        ).read_text() + f"{arguments.precision} {device.type} {arguments.images}"
        quality = measure_quality(model, cells, arguments, hashlib.sha256(told.encode()).hexdigest()[:12])
        speed = measure_speed(model, quality["evaluations_equal"], device, arguments)
    except UserError as error:
        sys.exit(str(error))
    figures = {
        "machine": machine(device),
        "model": model.lineage.identity,
        "phantom": model.lineage.phantom,
        "images": arguments.images,
        "seeds": arguments.seeds,
        "held_out_cells": len(cells.held_out),
        "precision": arguments.precision,
    }
    figures |= quality | speed
    show(figures)
    if arguments.figure is not None:
        draw(figures, model.lineage.phantom).savefig(arguments.figure)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
