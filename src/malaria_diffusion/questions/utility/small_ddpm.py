"""The DDPM of few people: trained on their cells alone, for the augmentation arm of the study of utility."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_json, fingerprint_names
from malaria_diffusion.cells.split import cell_names
from malaria_diffusion.compute.device import resolve_device, resolve_precision
from malaria_diffusion.diffusion.config import (
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.diffusion.lineage import Lineage
from malaria_diffusion.diffusion.sampling import Denoiser, sample
from malaria_diffusion.diffusion.training.checkpoint import select
from malaria_diffusion.diffusion.training.data import TrainingData
from malaria_diffusion.diffusion.training.trainer import (
    load_averaged,
    load_guide_weights,
    train,
    training_identity,
    training_settings,
)
from malaria_diffusion.files import whole, write_array


def small_training(
    training: TrainingParameters, rows: int, images: int, num_classes: int, seed: int
) -> TrainingParameters:
    """As the DDPM of all people is trained, but until about `images` training images are seen.

    Validation people choose nothing: the last averaged weights are used, as a hospital with few people would.

    Args:
        training: Of the DDPM of all people.
        rows: Training cells there are.
        images: Training images to see.
        num_classes: Number of classes.
        seed: Of the training.
    """
    batch_size = min(training.batch_size, rows)
    epochs = max(1, round(images / (rows // batch_size * batch_size)))
    changed = {
        "epochs": epochs,
        "batch_size": batch_size,
        "decay_epochs": None if training.decay_epochs is None else epochs,
        "quality_epochs": epochs,  # there must be one look; it is not used
        "quality_images": 2 * num_classes,
        "ema_decay": training.ema_decays[0],
        "seed": seed,
    }
    if training.guide_epochs is not None:  # as far into the training
        changed["guide_epochs"] = max(1, round(epochs * training.guide_epochs / training.epochs))
    return TrainingParameters(**training.model_dump() | changed)


def data_of_rows(cells: Cells, rows: NDArray[np.int64]) -> TrainingData:
    """These rows of the cells of a study to train on, with a fingerprint that tells which they are."""
    names = fingerprint_names(cell_names(cells.table).iloc[rows])
    return TrainingData.of(cells)._replace(train_rows=rows, fingerprint=f"{cells.fingerprint} {names}")


def train_small_ddpm(data: TrainingData, like: Lineage, training: TrainingParameters, folder: Path) -> Denoiser:
    """Train (or continue, or find trained) on `data.train_rows`.

    Args:
        data: See `data_of_rows`.
        like: Of the DDPM of all people, whose process and network it has.
        training: See `small_training`.
        folder: Holds a folder for each training.
    """
    size, process, network = int(data.cells.shape[-1]), like.process, like.network
    place = training_folder(data, like, training, folder)
    train(data, process, network, training, place)
    objective = load_averaged(place, process, network, training, size, data.num_classes)
    guide = None
    if training.guide_epochs is not None:
        guide = copy.deepcopy(objective.network)
        guide.load_state_dict(select(load_guide_weights(place, training.guide_epochs), "network."))
    return objective.denoiser(size, data.grey, guide)


def cells_of_small_ddpm(
    data: TrainingData,
    like: Lineage,
    training: TrainingParameters,
    sampling: SamplingParameters,
    labels: NDArray[np.int64],
    folder: Path,
) -> NDArray[np.uint8]:
    """Train, see `train_small_ddpm`, and generate; what is generated already is read.

    Args:
        data: See `train_small_ddpm`.
        like: See there.
        training: See there.
        sampling: How to generate; its count is not used.
        labels: Class of each image, (N,).
        folder: See `train_small_ddpm`.

    Returns:
        uint8, (N, 3, S, S).
    """
    how = sampling.model_dump(mode="json", exclude={"count", "device", "batch_size"})
    how["precision"] = str(resolve_precision(sampling.precision, resolve_device(sampling.device)))
    place = training_folder(data, like, training, folder)
    generated = place / f"cells-{fingerprint_json([how, labels.tolist()])}.npy"
    if generated.exists():
        kept: NDArray[np.uint8] = np.load(generated)
        return kept
    images = sample(train_small_ddpm(data, like, training, folder), labels, sampling)
    with whole(generated) as beside:
        write_array(beside, images)
    return images


def training_folder(data: TrainingData, like: Lineage, training: TrainingParameters, folder: Path) -> Path:
    """Where a training is kept, see `train_small_ddpm`."""
    size, classes = int(data.cells.shape[-1]), data.num_classes
    settings = training_settings(data.fingerprint, size, classes, like.process, like.network, training)
    # neither is part of the identity, but here neither will change: the weights that guide are those of one epoch
    guide = "" if training.guide_epochs is None else f"-guide{training.guide_epochs}"
    return folder / f"{training_identity(settings)}-{training.epochs}{guide}"
