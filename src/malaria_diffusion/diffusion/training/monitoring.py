"""What is looked at while training: the loss on validation cells, and generated images beside them."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from malaria_diffusion.compute.randomness import Purpose, draw_samples, keyed_generator
from malaria_diffusion.diffusion.config import Clipping, SamplingParameters, Solver, TrainingParameters, Variance
from malaria_diffusion.diffusion.sampling import sample
from malaria_diffusion.diffusion.training.data import TrainingData, read_batch
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.quality import QualityMeasure
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.neighbours import FEWEST

LOSS_CELLS = 256
REFERENCE_CELLS = 2000
TYPICAL_CELLS = 4000
EVALUATIONS = 20
BATCH = 64


class Watch:
    """Compares with validation cells only, with the same draws and noise at every look.

    Training cells tell no more than what cells usually look like, see `QualityMeasure`.

    Attributes:
        sampled_labels: Classes of the images generated at each look, class after class.
    """

    def __init__(self, data: TrainingData, parameters: TrainingParameters, timesteps: int) -> None:
        self.data, self.parameters, self.timesteps = data, parameters, timesteps
        self.sampled_labels = np.sort(np.arange(parameters.quality_images) % data.num_classes)
        self._rows = keyed_generator(parameters.seed, Purpose.ORDER, 2**62).permutation(data.val_rows)
        counts = np.bincount(data.labels[self._rows], minlength=data.num_classes)
        if counts.min() == 0:
            raise UserError(
                f"the validation cells hold {counts.tolist()} cells of the classes, and need some of each to watch the "
                "training by; raise data_processing.split.val_fraction"
            )
        self._per_class = min(int(counts.min()), REFERENCE_CELLS // data.num_classes)

    @torch.no_grad()
    def validation_loss(self, objective: Objective) -> float:
        """Mean loss of some validation cells, with fixed noise and timesteps."""
        rows = self._rows[:LOSS_CELLS]
        losses = []
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            samples = range(start, start + len(part))
            shape = self.data.cells.shape[1:]
            draw = draw_samples(self.parameters.seed, Purpose.VALIDATION, samples, self.timesteps, shape)
            losses.append(objective(read_batch(self.data, part, draw).to(objective.network.device)))
        return float(torch.cat(losses).mean())

    def look(self, objective: Objective) -> tuple[NDArray[np.uint8], float]:
        """Images generated from fixed noise, (N, 3, S, S), and their kernel distance to the validation cells."""
        every_step = self.timesteps <= EVALUATIONS
        sampling = SamplingParameters(
            count=1,
            seed=self.parameters.seed,
            solver=Solver.ANCESTRAL if every_step else Solver.DPM_SOLVER,
            evaluations=None if every_step else EVALUATIONS,
            variance=Variance.BETA_TILDE,
            clipping=Clipping.STATIC,
            guidance=1.0,
            batch_size=BATCH,
            precision=self.parameters.precision,
            device=self.parameters.device,
        )
        size = int(self.data.cells.shape[-1])
        with torch.no_grad():  # a learned schedule is computed from weights
            denoiser = objective.denoiser(size, self.data.grey)
        images = sample(denoiser, self.sampled_labels, sampling, progress=False)
        return images, self.measure.distance(images)

    def recall(self, images: NDArray[np.uint8]) -> float | None:
        """Share of the validation cells that lie among `images`; None of too few images to tell."""
        if min(len(images), len(self.reference)) < FEWEST:
            return None
        return self.measure.recall(images)

    @cached_property
    def reference(self) -> NDArray[np.uint8]:
        """The validation cells that generated ones are compared with: as many of each class."""
        return self._first(self._rows, self._per_class)

    @cached_property
    def measure(self) -> QualityMeasure:
        """Of the distance to `reference`."""
        typical = keyed_generator(self.parameters.seed, Purpose.ORDER, 2**62 + 1).permutation(self.data.train_rows)
        scarcest = int(np.bincount(self.data.labels[typical]).min())
        per_class = min(scarcest, TYPICAL_CELLS // self.data.num_classes)
        return QualityMeasure(self.reference, self._first(typical, per_class))

    def _first(self, rows: NDArray[np.int64], per_class: int) -> NDArray[np.uint8]:
        """The first cells of each class among `rows`."""
        labels = self.data.labels[rows]
        chosen = [rows[labels == label][:per_class] for label in range(self.data.num_classes)]
        first: NDArray[np.uint8] = self.data.cells[np.sort(np.concatenate(chosen))]
        return first
