"""What the study of the number of diffusion steps measures of a finished training, and against which floors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.compute.device import resolve_device
from malaria_diffusion.compute.randomness import Purpose, draw_samples
from malaria_diffusion.diffusion.config import (
    SamplingParameters,
    Solver,
    TrainingParameters,
)
from malaria_diffusion.diffusion.process.schedule import ScheduleEnds, schedule_ends
from malaria_diffusion.diffusion.sampling import sample
from malaria_diffusion.diffusion.training.data import TrainingData, read_batch
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.quality import QualityMeasure, nearest_in_pixels
from malaria_diffusion.diffusion.training.trainer import seconds_per_image
from malaria_diffusion.statistics.comparison import per_class_number

REFERENCE_CELLS = 2000
TYPICAL_CELLS = 4000
LOSS_CELLS = 500
LOSS_BATCH = 64
FLOOR_DRAWS = 20
FLOOR_QUANTILE = 0.95
JACKKNIFE_GROUPS = 10
RESAMPLES = 1000
WARM_UP_EVALUATIONS = 4


class Measures(NamedTuple):
    """What was measured of one training. `*_error`: standard error, from the images and cells looked at alone.

    Attributes:
        kernel_distance: Of the generated images to validation cells, see `QualityMeasure`.
        kernel_distance_error: By a jackknife over the images.
        nearest: Median distance of a generated image to the nearest training cell, see `nearest_in_pixels`.
        nearest_ratio: That over the same of validation cells. Below 1, images lie closer to the training cells than new
            cells do: overfitting, or smooth images, which lie closer to any cell.
        nearest_ratio_error: By a bootstrap over images and over validation people.
        closer_to_training: Share of the images whose nearest cell, among those of as many training as new people,
            is a training cell. Smooth or not, images that copy nothing have about one half.
        closer_to_training_error: Over draws of images and people.
        train_loss: Mean loss of training cells; as the next, with the averaged weights and the same noise and steps.
        val_loss: Mean loss of validation cells.
        loss_gap: val_loss / train_loss - 1.
        loss_gap_error: By a bootstrap over cells.
        training_seconds: Per training image.
        sampling_seconds: Per generated image, all T steps, after a warm-up.
        device: Where the images were generated.
    """

    kernel_distance: float
    kernel_distance_error: float
    nearest: float
    nearest_ratio: float
    nearest_ratio_error: float
    closer_to_training: float
    closer_to_training_error: float
    train_loss: float
    val_loss: float
    loss_gap: float
    loss_gap_error: float
    training_seconds: float
    sampling_seconds: float
    device: str


class Floor(NamedTuple):
    """What real cells score in the place of generated images.

    Attributes:
        kernel_distance: Of training cells to validation cells, mean over draws of as many as images are generated.
        kernel_distance_high: Its upper quantile over the draws.
        nearest: Median distance of a validation cell to the nearest training cell.
    """

    kernel_distance: float
    kernel_distance_high: float
    nearest: float


class Trained(NamedTuple):
    """A finished training: its last averaged weights, so that no epoch is chosen by what is measured here."""

    objective: Objective
    parameters: TrainingParameters
    folder: Path


class Measurement(NamedTuple):
    """Measures of a training, the ends of its schedule, and the generated images (N, 3, S, S), class after class."""

    measures: Measures
    ends: ScheduleEnds
    images: NDArray[np.uint8]


class Yardstick:
    """What all trainings of one study are held against: the same cells, chosen by the study's images and a seed of 0.

    Attributes:
        floor: What real cells score.
    """

    def __init__(self, cells: Cells, images: int) -> None:
        self.data, self._train, self._val = TrainingData.of(cells), cells.part("train"), cells.part("val")
        self._images = images
        rng = np.random.default_rng(0)
        reference = _balanced(self._val, REFERENCE_CELLS, rng)
        typical = _balanced(self._train, TYPICAL_CELLS, rng)
        self._quality = QualityMeasure(reference.pixels, typical.pixels)
        self._training_cells = self._train.pixels
        drawn = [self._quality.distance(_balanced(self._train, images, rng).pixels) for _ in range(FLOOR_DRAWS)]
        self._new = nearest_in_pixels(reference.pixels, self._training_cells)
        self._people = reference.people
        self.floor = Floor(
            float(np.mean(drawn)), float(np.quantile(drawn, FLOOR_QUANTILE)), float(np.median(self._new))
        )

    def measure(self, trained: Trained, sampling: SamplingParameters) -> Measurement:
        """Generate images with every step of a training's chain and measure them."""
        labels = self.labels()
        objective, data = trained.objective, self.data
        device = resolve_device(sampling.device)
        objective.to(device)
        diffusion, size = objective.diffusion, int(data.cells.shape[-1])

        denoiser = objective.denoiser(size, data.grey)
        quick = {"solver": Solver.DPM_SOLVER, "evaluations": WARM_UP_EVALUATIONS}
        sample(denoiser, labels[: sampling.batch_size], sampling.model_copy(update=quick))
        start = time.perf_counter()
        images = sample(denoiser, labels, sampling)
        seconds = time.perf_counter() - start

        distance, distance_error = jackknife(images, self._quality)
        nearest = nearest_in_pixels(images, self._training_cells)
        closer, closer_error = closer_to_training(_to_people(images, self._train), _to_people(images, self._val))
        ratio, ratio_error = ratio_of_medians(nearest, self._new, self._people)
        train_losses, val_losses = self._losses(trained)
        gap, gap_error = relative_gap(train_losses, val_losses)
        measures = Measures(
            kernel_distance=distance,
            kernel_distance_error=distance_error,
            nearest=float(np.median(nearest)),
            nearest_ratio=ratio,
            nearest_ratio_error=ratio_error,
            closer_to_training=closer,
            closer_to_training_error=closer_error,
            train_loss=float(train_losses.mean()),
            val_loss=float(val_losses.mean()),
            loss_gap=gap,
            loss_gap_error=gap_error,
            training_seconds=seconds_per_image(trained.folder),
            sampling_seconds=seconds / len(images),
            device=device.type,
        )
        return Measurement(measures, schedule_ends(diffusion.schedule), images)

    def labels(self) -> NDArray[np.int64]:
        """Class of each generated image, class after class."""
        return np.sort(np.arange(self._images) % self.data.num_classes)

    @torch.no_grad()
    def _losses(self, trained: Trained) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Losses of as many training as validation cells; cell k of both has the same noise and step."""
        rng = np.random.default_rng(0)
        number = min(LOSS_CELLS, len(self.data.train_rows), len(self.data.val_rows))
        objective, found = trained.objective.eval(), []
        for rows in (self.data.train_rows, self.data.val_rows):
            chosen, losses = rng.permutation(rows)[:number], []
            for start in range(0, number, LOSS_BATCH):
                part = chosen[start : start + LOSS_BATCH]
                samples = range(start, start + len(part))
                shape = self.data.cells.shape[1:]
                timesteps = objective.diffusion.timesteps
                draw = draw_samples(trained.parameters.seed, Purpose.VALIDATION, samples, timesteps, shape)
                losses.append(objective(read_batch(self.data, part, draw).to(objective.network.device)).cpu())
            found.append(torch.cat(losses).double().numpy())
        return found[0], found[1]


def _balanced(cells: Cells, most: int, rng: np.random.Generator) -> Cells:
    return cells.balanced(per_class_number(most, cells.table), rng)


def _to_people(images: NDArray[np.uint8], cells: Cells) -> NDArray[np.float64]:
    """Distance of each image to the nearest cell of each person, (images, people)."""
    of_people = [cells[cells.people == person].pixels for person in np.unique(cells.people)]
    return np.stack([nearest_in_pixels(images, of_person) for of_person in of_people], axis=1)


def jackknife(images: NDArray[np.uint8], quality: QualityMeasure) -> tuple[float, float]:
    """Kernel distance of images and its standard error, from leaving out a tenth of them at a time.

    A bootstrap would draw images twice, and an image is at no distance from itself.
    """
    group = np.arange(len(images)) % JACKKNIFE_GROUPS
    without = np.array([quality.distance(images[group != left_out]) for left_out in range(JACKKNIFE_GROUPS)])
    error = np.sqrt((JACKKNIFE_GROUPS - 1) * without.var())
    return quality.distance(images), float(error)


def ratio_of_medians(
    generated: NDArray[np.floating], new: NDArray[np.floating], people: NDArray[np.str_]
) -> tuple[float, float]:
    """Median of `generated` over that of `new`, and its standard error.

    Args:
        generated: A distance of each generated image.
        new: A distance of each new cell.
        people: Whose cell that is; people are resampled, as the cells of one are alike.
    """
    rng = np.random.default_rng(0)
    of_person = [new[people == person] for person in np.unique(people)]
    drawn = []
    for _ in range(RESAMPLES):
        chosen = rng.choice(generated, len(generated))
        cells = np.concatenate([of_person[k] for k in rng.integers(len(of_person), size=len(of_person))])
        drawn.append(np.median(chosen) / np.median(cells))
    return float(np.median(generated) / np.median(new)), float(np.std(drawn, ddof=1))


def closer_to_training(training: NDArray[np.floating], new: NDArray[np.floating]) -> tuple[float, float]:
    """Share of images whose nearest cell is a training cell and not a new one, and its standard error.

    Mean over draws of images, and of half of the new people and as many training people. People are drawn, as one whose
    cells lie in the middle is nearest to most images; without repetition, so that there are as many on both sides; and
    half of them, as such draws differ by as much as other people would.

    Args:
        training: Distance of each image to each training person, (images, people).
        new: The same to people who trained nothing.
    """
    rng = np.random.default_rng(0)
    count = max(1, min(training.shape[1], new.shape[1]) // 2)
    drawn = []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(training), size=len(training))
        sides = [side[np.ix_(rows, rng.permutation(side.shape[1])[:count])].min(axis=1) for side in (training, new)]
        drawn.append((sides[0] < sides[1]).mean())
    return float(np.mean(drawn)), float(np.std(drawn, ddof=1))


def relative_gap(train: NDArray[np.floating], val: NDArray[np.floating]) -> tuple[float, float]:
    """How much larger the mean of `val` is than that of `train`, and its standard error; pairs are resampled."""
    rows = np.random.default_rng(0).integers(len(train), size=(RESAMPLES, len(train)))
    gaps = val[rows].mean(axis=1) / train[rows].mean(axis=1) - 1
    return float(val.mean() / train.mean() - 1), float(gaps.std(ddof=1))
