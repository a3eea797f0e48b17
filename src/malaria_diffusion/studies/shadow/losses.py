"""Train the shadow models and measure the losses of cells under each, each once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.diffusion.config import SamplingParameters, TrainingParameters
from malaria_diffusion.diffusion.lineage import Lineage
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.files import whole, write_array
from malaria_diffusion.questions.privacy.membership import attack_timesteps, denoising_losses, some_of_each
from malaria_diffusion.studies.config import ShadowParameters
from malaria_diffusion.studies.shadow.design import Design

if TYPE_CHECKING:  # they import torch
    from malaria_diffusion.diffusion.sampling import Denoiser

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shadows:
    """Shadow models and losses under them, kept in files: what is trained or measured already is read.

    Attributes:
        cells: Of the study.
        design: Which of them train which shadow.
        like: Of the model whose process, network and training the shadows have, but for the number of images.
        parameters: That number, and the seed: shadow k trains with `seed` + k.
        sampling: On which device and in which precision losses are computed.
        folder: Where trainings and losses are kept.
    """

    cells: Cells
    design: Design
    like: Lineage
    parameters: ShadowParameters
    sampling: SamplingParameters
    folder: Path

    @cached_property
    def measured(self) -> Cells:
        """The attacked cells, and after them some of each validation person, who tell how hard an image is."""
        val = some_of_each(self.cells.part("val"), np.random.default_rng(self.parameters.seed))
        return self.cells[np.concatenate([self.design.pool.places[self.design.attacked], val.places])]

    def training(self, number: int) -> TrainingParameters:
        """How shadow `number` is trained."""
        from malaria_diffusion.questions.utility.small_ddpm import small_training

        rows, classes = int(self.design.inside[:, number].sum()), len(self.cells.class_names)
        return small_training(self.like.training, rows, self.parameters.images, classes, self.parameters.seed + number)

    @property
    def images_seen(self) -> float:
        """Training images that a shadow sees, mean over shadows: whole epochs."""
        seen = []
        for number, rows in enumerate(self.design.inside.sum(axis=0)):
            training = self.training(number)
            seen.append(training.epochs * (rows // training.batch_size) * training.batch_size)
        return float(np.mean(seen))

    def losses(self, number: int) -> NDArray[np.float64]:
        """Losses of the measured cells under a shadow, (N, timesteps); it is trained, if that is not done."""
        from malaria_diffusion.questions.utility.small_ddpm import data_of_rows, train_small_ddpm, training_folder

        data = data_of_rows(self.cells, self.design.pool.places[self.design.inside[:, number]])
        training, folder = self.training(number), self.folder / "ddpm"
        name = training_folder(data, self.like, training, folder).name
        return self._once(name, lambda: train_small_ddpm(data, self.like, training, folder))

    def losses_of(self, model: DiffusionModel) -> NDArray[np.float64]:
        """The same under a finished model."""
        lineage = model.lineage
        return self._once(f"{lineage.identity}-{lineage.epochs}-{lineage.best_epoch}", lambda: model.denoiser)

    def _once(self, name: str, denoiser: Callable[[], Denoiser]) -> NDArray[np.float64]:
        from malaria_diffusion.compute.device import Compute

        compute = Compute.of(self.sampling.device, self.sampling.precision)
        steps, seed = attack_timesteps(self.like.process.timesteps), self.parameters.seed
        what = [self.cells.fingerprint, self.measured.places.tolist(), steps.tolist(), seed, str(compute.dtype)]
        path = self.folder / f"losses-{name}-{fingerprint_json(what)}.npy"
        if path.exists():
            kept: NDArray[np.float64] = np.load(path)
            return kept
        cells = self.measured
        losses = denoising_losses(denoiser(), cells.pixels, cells.classes, steps, seed, compute)
        with whole(path) as beside:
            write_array(beside, losses)
        return losses
