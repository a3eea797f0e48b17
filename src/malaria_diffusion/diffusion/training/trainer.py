"""Algorithm 1 of Ho et al. 2020: train the network, resumable, on one process or many."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.compute.device import resolve_device, resolve_precision
from malaria_diffusion.compute.distributed import Processes, join_processes
from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.config import Parameters
from malaria_diffusion.diffusion.config import NetworkParameters, ProcessParameters, TrainingParameters
from malaria_diffusion.diffusion.network.compiled import compile_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.training.checkpoint import (
    CheckpointError,
    load_progress,
    load_tensors,
    pack_state,
    save_checkpoint,
    select,
    unpack_state,
)
from malaria_diffusion.diffusion.training.data import Feed, TrainingData
from malaria_diffusion.diffusion.training.monitoring import Watch
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.optimizer import build_optimizer
from malaria_diffusion.errors import UserError

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
GUIDE = "guide.safetensors"
CHECKPOINT_SECONDS = 120
CHECKPOINT_SHARE = 0.004  # of the time, at most
LOG_STEPS = 20
# parameters that change where, how long or in what pieces a training runs, but not what it computes
NOT_IDENTITY = {"epochs", "device", "accumulation", "guide_epochs"}
# parameters that are younger than stored trainings; at their defaults they do what was done before there were any
YOUNGER = {
    "patch_size",
    "attention_head_channels",
    "scale_shift",
    "timestep_draw",
    "log_snr_deviation",
    "quarter_turns",
}


class TrainingError(UserError):
    """Training cannot go on; the message says at which step, why, and the way back."""


class EpochReport(NamedTuple):
    """What a watcher gets after each epoch, on every process.

    Attributes:
        epoch: Epochs done, from 1.
        history: All rows so far, see `train`.
        images: Images generated after this epoch, uint8 (N, 3, S, S); None if it was no time to look.
        labels: Their classes, (N,).
        images_per_second: Training speed of all processes together, None before the first step.
    """

    epoch: int
    history: pd.DataFrame
    images: NDArray[np.uint8] | None
    labels: NDArray[np.int64]
    images_per_second: float | None


def train(
    data: TrainingData,
    process: ProcessParameters,
    network_parameters: NetworkParameters,
    parameters: TrainingParameters,
    folder: Path,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> pd.DataFrame:
    """Train to `parameters.epochs`, continuing from the checkpoint in `folder` if there is one.

    Noise, timestep, flips and label drop of a sample depend on (seed, its running number) alone, so an interrupted
    training that is continued goes through exactly the steps of one that was not, and several processes (see
    `join_processes`; each reads its share of every batch, the main one writes) through those of one, to rounding.
    Dropout masks alone depend on how a batch is divided.

    Returns:
        The history, one row every few steps and one at each epoch's end: step, epoch, images_seen, loss (mean since the
        last row), learning_rate; at epochs' ends val_loss (averaged weights, the first of several, fixed draws) and,
        every `quality_epochs`, kernel_distance (see `QualityMeasure`), of several averages the smallest, with its
        ema_decay, and recall; of a learned schedule the ends of its alpha_bars.

    Raises:
        TrainingError: the data do not fit the parameters, the loss is not finite, or the weights to guide by were not
            kept.
        CheckpointError: the checkpoint is damaged, is of another training, or cannot be written.
    """
    with Trainer(data, process, network_parameters, parameters, folder) as run:
        run.resume()
        run.check_guide()
        total = parameters.epochs * run.feed.steps_per_epoch
        with tqdm(
            total=total * parameters.batch_size,
            initial=run.images_seen,
            desc="training DDPM",
            unit="image",
            disable=not run.processes.is_main,
        ) as bar:
            while run.step < total:
                run.one_step()
                bar.update(parameters.batch_size)
                end_of_epoch = run.step % run.feed.steps_per_epoch == 0
                if not end_of_epoch and run.step % LOG_STEPS:
                    continue
                bar.set_postfix(loss=f"{run.record(end_of_epoch):.4f}", epoch=run.epoch)
                is_best = end_of_epoch and run.look()
                if end_of_epoch and run.epoch == parameters.guide_epochs:
                    run.save_guide()
                if end_of_epoch or time.monotonic() - run.last_save > CHECKPOINT_SECONDS:
                    run.save(must=is_best or run.step == total)
                if end_of_epoch:
                    on_epoch(run.report(bar.format_dict["rate"]))
        run.processes.wait()  # what the main process wrote may be read by all from here on
        return run.table


def training_settings(
    fingerprint: str,
    size: int,
    num_classes: int,
    process: ProcessParameters,
    network: NetworkParameters,
    parameters: TrainingParameters,
) -> dict[str, Any]:
    """All that makes a training another one: everything but its length and where and in what pieces it runs.

    What is younger than stored trainings is left out where it does what was done before, so that these keep their name.
    """
    training = _named(parameters)
    training["precision"] = str(resolve_precision(parameters.precision, resolve_device(parameters.device)))
    return {
        "cells": fingerprint,
        "size": size,
        "classes": num_classes,
        "process": process.model_dump(mode="json"),
        "network": _named(network),
        "training": training,
    }


def training_identity(settings: dict[str, Any]) -> str:
    """Name of a training: a fingerprint of its `training_settings`."""
    return fingerprint_json(settings)


def epochs_done(folder: Path) -> int:
    """Whole epochs that the training in `folder` has behind it; 0 if it has not begun."""
    path = folder / CHECKPOINT
    return load_progress(path)["epochs_done"] if path.exists() else 0


def training_seconds(folder: Path) -> float:
    """What the steps of the training in `folder` took by the clock, without looks, validation and checkpoints."""
    return float(load_progress(folder / CHECKPOINT)["seconds"])


def seconds_per_image(folder: Path) -> float:
    """What a training image has cost in the training in `folder`, see `training_seconds`."""
    return training_seconds(folder) / float(load_progress(folder / CHECKPOINT)["images_seen"])


class BestWeights(NamedTuple):
    """The averaged weights of the epoch with the smallest kernel distance.

    Attributes:
        weights: By name, "network." or "schedule." first.
        epoch: Epochs done.
        kernel_distance: To the validation cells.
        ema_decay: Of the average that these are; None if there was but one.
    """

    weights: dict[str, Tensor]
    epoch: int
    kernel_distance: float
    ema_decay: float | None


def load_best_weights(folder: Path) -> BestWeights:
    """The best averaged (EMA) weights of the training in `folder`.

    Raises:
        UserError: no epoch's images have been measured.
        CheckpointError: the file is damaged.
    """
    path = folder / BEST
    if not path.exists():
        raise UserError(
            f"{path}: not there: this training has not come to its first look at generated images, at "
            "diffusion.training.quality_epochs epochs; let it go on"
        )
    progress = load_progress(path)
    weights = select(load_tensors(path), "ema.")
    return BestWeights(weights, progress["epoch"], progress["kernel_distance"], progress.get("ema_decay"))


def load_guide_weights(folder: Path, epoch: int) -> dict[str, Tensor]:
    """The averaged weights after `epoch` epochs of the training in `folder`, kept to guide by, by name.

    Raises:
        TrainingError: they were not kept; those of another epoch may have been.
        CheckpointError: the file is damaged.
    """
    _check_guide(folder, epoch)
    return select(load_tensors(folder / GUIDE), "ema.")


def load_averaged(
    folder: Path,
    process: ProcessParameters,
    network: NetworkParameters,
    training: TrainingParameters,
    size: int,
    num_classes: int,
) -> Objective:
    """What the training in `folder` trains, with its last averaged (EMA) weights, ready to be asked."""
    precision = resolve_precision(training.precision, resolve_device(training.device))
    objective = Objective(process, network, training, size, num_classes, precision)
    objective.load_state_dict(select(load_tensors(folder / CHECKPOINT), "ema."))
    return objective.eval().requires_grad_(False)


class Trainer:
    """One training: its state, and what changes it."""

    def __init__(
        self,
        data: TrainingData,
        process: ProcessParameters,
        network_parameters: NetworkParameters,
        parameters: TrainingParameters,
        folder: Path,
    ) -> None:
        self.data, self.parameters, self.folder = data, parameters, folder
        self.device = resolve_device(parameters.device)
        self.processes = join_processes(self.device)
        _check_fit(data, parameters, self.processes)
        size = int(data.cells.shape[-1])
        self.settings = training_settings(
            data.fingerprint, size, data.num_classes, process, network_parameters, parameters
        )
        precision = resolve_precision(parameters.precision, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._torch_seed(-1))  # for the initial weights
            objective = Objective(process, network_parameters, parameters, size, data.num_classes, precision)
        self.objective = objective.to(self.device).to(memory_format=torch.channels_last).train()
        self.averaged = {
            decay: copy.deepcopy(self.objective).eval().requires_grad_(False) for decay in parameters.ema_decays
        }
        self.averages: dict[float, dict[str, Tensor]] = {
            decay: dict(averaged.named_parameters()) for decay, averaged in self.averaged.items()
        }
        if parameters.compile:
            compile_network(self.objective.network)
        self.losses: Objective | DistributedDataParallel = self.objective
        if self.processes.count > 1:
            self.losses = DistributedDataParallel(self.objective)
        self.optimizer = build_optimizer(self.objective, parameters)
        self.feed = Feed(data, parameters, GaussianDiffusion.from_parameters(process), self.processes, self.device)
        self.watch = Watch(data, parameters, process.timesteps)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.images: NDArray[np.uint8] | None = None
        # summed on the device and read every few steps: reading at each one would wait for the device
        self.loss_sum = torch.zeros((), device=self.device)
        self.loss_count = 0
        self.seconds = 0.0
        self._since: float | None = None
        self.last_save, self._save_seconds = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.feed.close()

    @property
    def _first_average(self) -> Objective:
        return next(iter(self.averaged.values()))

    @property
    def images_seen(self) -> int:
        """Training images so far."""
        return self.step * self.parameters.batch_size

    @property
    def epoch(self) -> int:
        """Epochs done, the running one counted."""
        return math.ceil(self.step / self.feed.steps_per_epoch)

    @property
    def path(self) -> Path:
        """Of the checkpoint."""
        return self.folder / CHECKPOINT

    @property
    def table(self) -> pd.DataFrame:
        """The history, see `train`."""
        measured = ["val_loss", "kernel_distance", "recall"] + (["ema_decay"] if len(self.averages) > 1 else [])
        return pd.DataFrame(self.history).astype(dict.fromkeys(measured, float))

    def one_step(self) -> None:
        """One step of Algorithm 1 on one batch."""
        if self._since is None:
            self._since = time.perf_counter()
        parameters = self.parameters
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.optimizer.zero_grad()
        batches = self.feed.step(self.step)
        part = self.feed.samples(self.step)
        for place, batch in enumerate(batches):
            torch.manual_seed(self._torch_seed(part.start + place * len(batch.t)))  # for dropout
            more = place < len(batches) - 1
            with self.losses.no_sync() if more and isinstance(self.losses, DistributedDataParallel) else nullcontext():
                loss = self.losses(batch).mean() / len(batches)
                loss.backward()
            self.loss_sum += loss.detach()
        if parameters.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.objective.parameters(), parameters.gradient_clip)
        self.optimizer.step()
        with torch.no_grad():
            for largest, average in self.averages.items():
                # diffusers' EMAModel has this decay and rounds otherwise, torch's AveragedModel begins with a copy
                decay = min(largest, (1 + self.step) / (10 + self.step))
                torch._foreach_lerp_(list(average.values()), list(self.objective.parameters()), 1 - decay)
        self.loss_count += 1
        self.step += 1

    def record(self, end_of_epoch: bool) -> float:
        """Add a row to the history; return the mean loss since the last one."""
        loss = float(self.processes.mean(self.loss_sum)) / self.loss_count
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None
        if not math.isfinite(loss):
            self._fail(f"loss became {loss} within the {self.loss_count} steps before step {self.step}")
        if not bool(nn.utils.get_total_norm(list(self.objective.parameters())).isfinite()):
            self._fail(f"weights are not finite at step {self.step}, before which the loss still was")
        row = {
            "step": self.step,
            "epoch": self.epoch,
            "images_seen": self.images_seen,
            "loss": loss,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "val_loss": self.watch.validation_loss(self._first_average) if end_of_epoch else None,
            "kernel_distance": None,
            "recall": None,
        }
        if len(self.averages) > 1:
            row["ema_decay"] = None
        if self.objective.schedule is not None:
            bars = self._first_average.diffusion.schedule.alpha_bars
            row |= {"alpha_bar_first": float(bars[0]), "alpha_bar_last": float(bars[-1])}
        self.history.append(row)
        self.loss_sum.zero_()
        self.loss_count = 0
        return loss

    def look(self) -> bool:
        """Measure images of the averaged weights; keep the weights, and return True, if they are the best so far."""
        self.images = None
        if self.epoch % self.parameters.quality_epochs:
            return False
        looks = {decay: self.watch.look(averaged) for decay, averaged in self.averaged.items()}
        chosen = min(looks, key=lambda decay: looks[decay][1])
        self.images, distance = looks[chosen]
        former = [row["kernel_distance"] for row in self.history if row["kernel_distance"] is not None]
        found = {"kernel_distance": distance} | ({"ema_decay": chosen} if len(looks) > 1 else {})
        self.history[-1] |= found | {"recall": self.watch.recall(self.images)}
        is_best = distance < min(former, default=math.inf)
        if is_best:
            self._keep(BEST, chosen, found)
        return is_best

    def check_guide(self) -> None:
        """Find out before the first step whether there will be weights to guide by."""
        asked = self.parameters.guide_epochs
        if asked is None or self.step < asked * self.feed.steps_per_epoch:
            return
        _check_guide(self.folder, asked)

    def save_guide(self) -> None:
        """Keep the averaged weights of now to guide by."""
        self._keep(GUIDE, self.parameters.ema_decays[0], {})

    def _keep(self, name: str, decay: float, facts: dict[str, Any]) -> None:
        """Write one of the averages of now beside the checkpoint."""
        if self.processes.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {f"ema.{weight}": tensor for weight, tensor in self.averages[decay].items()}
            save_checkpoint(self.folder / name, tensors, {"epoch": self.epoch} | facts)

    def report(self, images_per_second: float | None) -> EpochReport:
        """What watchers get."""
        return EpochReport(self.epoch, self.table, self.images, self.watch.sampled_labels, images_per_second)

    def save(self, must: bool) -> None:
        """Write a checkpoint; unless it `must` be, only if that takes a small share of the time."""
        start = time.monotonic()
        if not self.processes.is_main or (
            not must and self._save_seconds > CHECKPOINT_SHARE * (start - self.last_save)
        ):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = {
            "settings": self.settings,
            "step": self.step,
            "images_seen": self.images_seen,
            "epochs_done": self.step // self.feed.steps_per_epoch,
            "seconds": self.seconds,
            "history": self.history,
        }
        save_checkpoint(self.path, pack_state(self.objective, self.averages, self.optimizer), progress)
        self.last_save = time.monotonic()
        self._save_seconds = self.last_save - start

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        progress = load_progress(self.path)
        differing = _differences(progress.get("settings", {}), self.settings)
        if differing:
            raise CheckpointError(
                f"{self.path}: is of another training ({'; '.join(differing)}); move it away, or ask for what it is of"
            )
        tensors = load_tensors(self.path)
        try:
            unpack_state(tensors, self.objective, self.averages, self.optimizer)
            self.step, self.history, self.seconds = progress["step"], progress["history"], progress["seconds"]
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{self.path}: does not hold what this version expects ({error}); move it away to train from the start"
            ) from error

    def _fail(self, what: str) -> NoReturn:
        way_back = f"the checkpoint {self.path} is from before it" if self.path.exists() else "nothing was saved yet"
        raise TrainingError(
            f"the {what}; {way_back}. Lower diffusion.training.learning_rate, set gradient_clip, or set "
            "precision to float32"
        )

    def _torch_seed(self, sample: int) -> int:
        return int(keyed_generator(self.parameters.seed, Purpose.TORCH, sample + 1).integers(2**63))

    def _learning_rate(self) -> float:
        # torch's schedules want one torch optimizer and keep a state of their own; this depends on the step alone
        parameters = self.parameters
        rate = parameters.learning_rate
        if self.step < parameters.warmup_steps:
            rate *= (self.step + 1) / parameters.warmup_steps
        if parameters.decay_epochs is not None:
            done = self.step / (parameters.decay_epochs * self.feed.steps_per_epoch)
            rate *= (1 + math.cos(math.pi * done)) / 2
        return rate


def _check_guide(folder: Path, epoch: int) -> None:
    """Make sure that the weights of this epoch were kept to guide by."""
    path = folder / GUIDE
    kept = load_progress(path)["epoch"] if path.exists() else None
    if kept != epoch:
        found = "nothing" if kept is None else f"those of epoch {kept}"
        raise TrainingError(
            f"{path}: weights to guide by, of epoch {epoch}, are not there, found {found}: set "
            "diffusion.training.guide_epochs to null, to the epoch that was kept or to one still to come, or train "
            "anew with another seed"
        )


def _named(parameters: Parameters) -> dict[str, Any]:
    """What of these parameters is in the name of a training."""
    fields = type(parameters).model_fields
    unchanged = {name for name in YOUNGER & fields.keys() if getattr(parameters, name) == fields[name].default}
    return parameters.model_dump(mode="json", exclude=NOT_IDENTITY | unchanged)


def _check_fit(data: TrainingData, parameters: TrainingParameters, processes: Processes) -> None:
    if len(data.train_rows) < parameters.batch_size:
        raise TrainingError(
            f"{len(data.train_rows)} training cells do not fill one batch of {parameters.batch_size}; lower "
            "diffusion.training.batch_size"
        )
    parts = processes.count * parameters.accumulation
    if parameters.batch_size % parts:
        raise TrainingError(
            f"diffusion.training.batch_size {parameters.batch_size} cannot be divided by {processes.count} processes "
            f"and {parameters.accumulation} parts each (accumulation); choose a multiple of {parts}"
        )


def _differences(found: dict[str, Any], expected: dict[str, Any], prefix: str = "") -> list[str]:
    """Where two nested settings differ, in words."""
    differing = []
    for key in sorted(found.keys() | expected.keys()):
        one, other = found.get(key), expected.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            differing += _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            differing.append(f"{prefix}{key} is {one!r}, expected {other!r}")
    return differing
