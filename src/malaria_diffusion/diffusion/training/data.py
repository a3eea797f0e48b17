"""From the memory map to the device: batches of noised training samples, made ahead by a thread."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.split import training_cells_fingerprint, training_rows
from malaria_diffusion.compute.distributed import Processes
from malaria_diffusion.compute.randomness import Draw, Purpose, draw_samples, keyed_generator
from malaria_diffusion.diffusion.config import TrainingParameters
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.training.timesteps import TimestepDraw, stratified

AHEAD = 2


class TrainingData(NamedTuple):
    """What is trained on.

    Attributes:
        cells: uint8, (N, 3, S, S), usually a memory map.
        labels: int64, (N,), class indices.
        train_rows: int64, rows trained on.
        val_rows: int64, rows by which the training is watched.
        num_classes: Number of classes.
        fingerprint: Of the cells, their labels and which of them are trained on.
        grey: Whether all cells are grey, so that generated ones are made so.
    """

    cells: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    val_rows: NDArray[np.int64]
    num_classes: int
    fingerprint: str
    grey: bool = False

    @classmethod
    def of(cls, cells: Cells) -> TrainingData:
        """The cells of a study: its training cells train, its validation people watch."""
        return cls(
            cells=cells.images,
            labels=cells.classes,
            train_rows=np.flatnonzero(training_rows(cells.table)),
            val_rows=np.flatnonzero(cells.table["split"] == "val"),
            num_classes=len(cells.class_names),
            fingerprint=f"{cells.fingerprint} {training_cells_fingerprint(cells.table)}",
            grey=cells.grey,
        )


class Batch(NamedTuple):
    """Training samples.

    Attributes:
        images: uint8, (B, 3, S, S).
        labels: int64, (B,).
        t: int64, (B,).
        epsilon: float32, (B, 3, S, S).
    """

    images: Tensor
    labels: Tensor
    t: Tensor
    epsilon: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same samples on `device`."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))

    @property
    def x_0(self) -> Tensor:
        """The images in [-1, 1], float32."""
        return self.images.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


class Feed:
    """This process's share of each training step, read and drawn by a thread while the step before is computed.

    Which cell is sample k, and all that is random about it, depends on (seed, k) alone; sample k belongs to step
    k // batch_size.
    """

    def __init__(
        self,
        data: TrainingData,
        parameters: TrainingParameters,
        diffusion: GaussianDiffusion,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.data, self.parameters, self.timesteps = data, parameters, diffusion.timesteps
        self.processes, self.device = processes, device
        log_snr = diffusion.schedule.alpha_bars.detach().cpu().logit().numpy()
        self._draw_timesteps = TimestepDraw(log_snr, parameters.log_snr_deviation)
        self.steps_per_epoch = len(data.train_rows) // parameters.batch_size
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._ahead: dict[int, Future[list[Batch]]] = {}
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def close(self) -> None:
        """Stop reading ahead."""
        self._thread.shutdown(cancel_futures=True)

    def step(self, step: int) -> list[Batch]:
        """The samples of one step in `accumulation` parts, on the device."""
        for ahead in range(step, step + 1 + AHEAD):
            if ahead not in self._ahead:
                self._ahead[ahead] = self._thread.submit(self._read_step, ahead)
        return [batch.to(self.device) for batch in self._ahead.pop(step).result()]

    def samples(self, step: int) -> range:
        """Numbers of the samples that this process sees at one step."""
        first, share = step * self.parameters.batch_size, self.processes.share(self.parameters.batch_size)
        return range(first + share.start, first + share.stop)

    def _read_step(self, step: int) -> list[Batch]:
        samples = self.samples(step)
        part = len(samples) // self.parameters.accumulation
        return [self._read(samples[start : start + part]) for start in range(0, len(samples), part)]

    def _read(self, samples: range) -> Batch:
        parameters = self.parameters
        step = samples.start // parameters.batch_size
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            generator = keyed_generator(parameters.seed, Purpose.ORDER, epoch)
            self._order = (epoch, generator.permutation(self.data.train_rows))
        offset = position * parameters.batch_size - step * parameters.batch_size
        rows = self._order[1][samples.start + offset : samples.stop + offset]
        shape = self.data.cells.shape[1:]
        draw = draw_samples(parameters.seed, Purpose.SAMPLE, samples, self.timesteps, shape)
        draw = draw._replace(t=self._timesteps(samples, draw.t))
        batch = read_batch(self.data, rows, draw, parameters.flips, parameters.label_dropout, parameters.quarter_turns)
        return Batch(*(tensor.pin_memory() for tensor in batch)) if self.device.type == "cuda" else batch

    def _timesteps(self, samples: range, independent: Tensor) -> Tensor:
        if self.parameters.timestep_draw == "stratified":
            return torch.from_numpy(self._draw_timesteps(stratified(self.parameters.seed, samples)))
        if self.parameters.log_snr_deviation is None:
            return independent
        streams = (keyed_generator(self.parameters.seed, Purpose.TIMESTEPS, 1 + sample) for sample in samples)
        return torch.from_numpy(self._draw_timesteps(np.array([stream.random() for stream in streams])))


def read_batch(
    data: TrainingData,
    rows: NDArray[np.int64],
    draw: Draw,
    flips: bool = False,
    label_dropout: float = 0.0,
    quarter_turns: bool = False,
) -> Batch:
    """The cells `rows`, flipped, turned and stripped of their labels as `draw` says."""
    images = data.cells[rows]
    if flips:  # in NumPy: torch would start a second pool of threads for the one that feeds
        for axis, chosen in zip((2, 3), draw.flips.numpy().T, strict=True):
            images[chosen] = np.flip(images[chosen], axis)
    if quarter_turns:
        chosen = draw.turns.numpy()
        images[chosen] = images[chosen].swapaxes(2, 3)
    labels = np.where(draw.drops.numpy() < label_dropout, data.num_classes, data.labels[rows])
    return Batch(torch.from_numpy(images), torch.from_numpy(labels), draw.t, draw.epsilon)
