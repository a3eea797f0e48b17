"""Algorithm 1 of Ho et al. 2020: train the network, resumable at any step."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from malaria_diffusion.ddpm.checkpoint import (
    load_progress,
    load_tensors,
    pack_state,
    save_checkpoint,
    select,
    unpack_state,
)
from malaria_diffusion.ddpm.device import resolve_device, resolve_precision
from malaria_diffusion.ddpm.keyed import Draw, Purpose, draw_samples, keyed_generator
from malaria_diffusion.ddpm.network import build_network
from malaria_diffusion.ddpm.parameters import NetworkParameters, ProcessParameters, TrainingParameters
from malaria_diffusion.ddpm.process import GaussianDiffusion
from malaria_diffusion.errors import UserError

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 120
LOG_STEPS = 20
VALIDATION_CELLS = 256


class TrainingError(UserError):
    """Training cannot go on; the message says at which step, why, and the way back."""


class TrainingData(NamedTuple):
    """What is trained on.

    Attributes:
        cells: uint8, (N, 3, S, S), usually a memory map.
        labels: int64, (N,), class indices.
        train_rows: int64, rows trained on.
        val_rows: int64, rows whose loss is watched.
        num_classes: Number of classes.
    """

    cells: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]
    num_classes: int


class EpochReport(NamedTuple):
    """What a watcher is told after each epoch.

    Attributes:
        epoch: Epochs done, from 1.
        history: All rows so far, see `train`.
        network: The averaged network, in evaluation mode; not to be changed.
        images_per_second: Training speed of this process, None before its first step.
    """

    epoch: int
    history: pd.DataFrame
    network: nn.Module
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

    Noise, timestep and flips of a sample depend on (seed, its running number) alone, so an interrupted training
    that is continued goes through exactly the steps of one that was not.

    Returns:
        The history, one row every few steps and one at each epoch's end: step, epoch, images_seen, loss (mean since the
        last row), learning_rate, and at epochs' ends val_loss (averaged weights, fixed draws).

    Raises:
        TrainingError: the loss is not finite.
        CheckpointError: the checkpoint is damaged.
    """
    run = _Run(data, process, network_parameters, parameters, folder)
    run.resume()
    total = parameters.epochs * run.steps_per_epoch
    last_save = time.monotonic()
    with tqdm(total=total * parameters.batch_size, initial=run.images_seen, desc="training DDPM", unit="image") as bar:
        while run.step < total:
            run.one_step()
            bar.update(parameters.batch_size)
            end_of_epoch = run.step % run.steps_per_epoch == 0
            if end_of_epoch or run.step % LOG_STEPS == 0:
                bar.set_postfix(loss=f"{run.record(end_of_epoch):.4f}", epoch=run.epoch)
            if end_of_epoch:
                on_epoch(EpochReport(run.epoch, pd.DataFrame(run.history), run.averaged, bar.format_dict["rate"]))
            if end_of_epoch or time.monotonic() - last_save > CHECKPOINT_SECONDS:
                run.save()
                last_save = time.monotonic()
    return pd.DataFrame(run.history)


def training_identity(
    cells_fingerprint: str,
    training_cells_hash: str,
    process: ProcessParameters,
    network: NetworkParameters,
    parameters: TrainingParameters,
) -> str:
    """Name of a training: a fingerprint of all that makes it another one.

    That is everything but its length (epochs), where it runs (device), and what is shown of it (grid_epochs).
    """
    settings = parameters.model_dump(mode="json", exclude={"epochs", "device", "grid_epochs"})
    settings["precision"] = str(resolve_precision(parameters.precision, resolve_device(parameters.device)))
    parts = {
        "cells": cells_fingerprint,
        "training_cells": training_cells_hash,
        "process": process.model_dump(mode="json"),
        "network": network.model_dump(mode="json"),
        "training": settings,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def epochs_done(folder: Path) -> int:
    """Whole epochs that the training in `folder` has behind it; 0 if it has not begun."""
    path = folder / CHECKPOINT
    return load_progress(path)["epochs_done"] if path.exists() else 0


def load_averaged_weights(folder: Path) -> dict[str, Tensor]:
    """The averaged (EMA) weights of the training in `folder`."""
    return select(load_tensors(folder / CHECKPOINT), "ema.")


class _Run:
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
        self.diffusion = GaussianDiffusion.from_parameters(process)
        self.device = resolve_device(parameters.device)
        self.dtype = resolve_precision(parameters.precision, self.device)
        self.steps_per_epoch = len(data.train_rows) // parameters.batch_size
        if self.steps_per_epoch == 0:
            raise TrainingError(
                f"{len(data.train_rows)} training cells do not fill one batch of {parameters.batch_size}; lower "
                "diffusion.training.batch_size"
            )
        size = data.cells.shape[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._torch_seed(-1))  # for the initial weights
            network = build_network(network_parameters, size, data.num_classes)
        self.network = network.to(self.device, memory_format=torch.channels_last).train()
        self.averaged = build_network(network_parameters, size, data.num_classes)
        self.averaged.load_state_dict(self.network.state_dict())
        self.averaged.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.ema = dict(self.averaged.named_parameters())
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[parameters.optimizer]
        self.optimizer = kind(self.network.parameters(), lr=parameters.learning_rate, fused=self.device.type != "mps")
        self.step = 0
        self.history: list[dict[str, Any]] = []
        # summed on the device and read every few steps: reading at each one would wait for the device
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.loss_count = 0
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    @property
    def images_seen(self) -> int:
        return self.step * self.parameters.batch_size

    @property
    def epoch(self) -> int:
        """Epochs done, the running one counted."""
        return math.ceil(self.step / self.steps_per_epoch)

    @property
    def path(self) -> Path:
        return self.folder / CHECKPOINT

    def one_step(self) -> None:
        """One step of Algorithm 1 on one batch."""
        parameters = self.parameters
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        indices = range(self.images_seen, self.images_seen + parameters.batch_size)
        draw = self._draw(Purpose.SAMPLE, indices)
        torch.manual_seed(self._torch_seed(self.step))  # for dropout
        loss = self._losses(self.network, self._next_rows(), draw, parameters.flips).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if parameters.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), parameters.gradient_clip)
        self.optimizer.step()
        decay = min(parameters.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), list(self.network.parameters()), 1 - decay)
        self.loss_sum += loss.detach()
        self.loss_count += 1
        self.step += 1

    def record(self, end_of_epoch: bool) -> float:
        """Add a row to the history; return the mean loss since the last one."""
        loss = float(self.loss_sum) / self.loss_count
        if not math.isfinite(loss):
            self._fail(f"loss became {loss} within the {self.loss_count} steps before step {self.step}")
        self.history.append(
            {
                "step": self.step,
                "epoch": self.epoch,
                "images_seen": self.images_seen,
                "loss": loss,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "val_loss": self._validation_loss() if end_of_epoch else None,
            }
        )
        self.loss_sum.zero_()
        self.loss_count = 0
        return loss

    def _fail(self, what: str) -> NoReturn:
        way_back = f"the checkpoint {self.path} is from before it" if self.path.exists() else "nothing was saved yet"
        raise TrainingError(
            f"the {what}; {way_back}. Lower diffusion.training.learning_rate, set gradient_clip, or set "
            "precision to float32"
        )

    def save(self) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self.network.parameters()):
            self._fail(f"weights are not finite at step {self.step}, before which the loss still was")
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = {
            "step": self.step,
            "epochs_done": self.step // self.steps_per_epoch,
            "loss_sum": float(self.loss_sum),
            "loss_count": self.loss_count,
            "history": self.history,
        }
        save_checkpoint(self.path, pack_state(self.network, self.ema, self.optimizer), progress)

    def resume(self) -> None:
        if not self.path.exists():
            return
        progress = load_progress(self.path)
        with torch.no_grad():
            unpack_state(load_tensors(self.path), self.network, self.ema, self.optimizer)
        self.step, self.history = progress["step"], progress["history"]
        self.loss_sum.fill_(progress["loss_sum"])
        self.loss_count = progress["loss_count"]

    def _torch_seed(self, step: int) -> int:
        return int(keyed_generator(self.parameters.seed, Purpose.TORCH, step + 1).integers(2**63))

    def _learning_rate(self) -> float:
        parameters = self.parameters
        rate = parameters.learning_rate
        if self.step < parameters.warmup_steps:
            rate *= (self.step + 1) / parameters.warmup_steps
        if parameters.decay_epochs is not None:
            done = self.step / (parameters.decay_epochs * self.steps_per_epoch)
            rate *= (1 + math.cos(math.pi * done)) / 2
        return rate

    def _next_rows(self) -> NDArray[np.int64]:
        epoch, position = divmod(self.step, self.steps_per_epoch)
        if self._order[0] != epoch:
            generator = keyed_generator(self.parameters.seed, Purpose.ORDER, epoch)
            self._order = (epoch, generator.permutation(self.data.train_rows))
        start = position * self.parameters.batch_size
        return self._order[1][start : start + self.parameters.batch_size]

    def _draw(self, purpose: Purpose, indices: range) -> Draw:
        shape = self.data.cells.shape[1:]
        draw = draw_samples(self.parameters.seed, purpose, indices, self.diffusion.timesteps, shape)
        return Draw(*(tensor.to(self.device, non_blocking=True) for tensor in draw))

    def _losses(self, network: nn.Module, rows: NDArray[np.int64], draw: Draw, flips: bool) -> Tensor:
        images = torch.from_numpy(self.data.cells[rows]).to(self.device)
        if flips:
            for axis, chosen in ((2, draw.flips[:, 0]), (3, draw.flips[:, 1])):
                images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(axis), images)
        x_0 = images.to(torch.float32).div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(self.data.labels[rows]).to(self.device)
        x_t = self.diffusion.q_sample(x_0, draw.t, draw.epsilon)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output = network(x_t, draw.t, class_labels=labels).sample
        return self.diffusion.loss(output.float(), x_0, draw.t, draw.epsilon)

    @torch.no_grad()
    def _validation_loss(self) -> float:
        generator = keyed_generator(self.parameters.seed, Purpose.ORDER, 2**62)
        rows = generator.permutation(self.data.val_rows)[:VALIDATION_CELLS]
        losses = []
        for start in range(0, len(rows), 64):
            part = rows[start : start + 64]
            draw = self._draw(Purpose.VALIDATION, range(start, start + len(part)))
            losses.append(self._losses(self.averaged, part, draw, flips=False))
        return float(torch.cat(losses).mean())
