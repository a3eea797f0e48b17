"""From cells to a finished diffusion model. torch is imported where it is used: listing pipelines stays quick."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_names, short_hashes
from malaria_diffusion.cells.split import training_cells_fingerprint
from malaria_diffusion.diffusion.config import (
    NetworkParameters,
    ProcessParameters,
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.diffusion.lineage import Lineage, software
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.observer import observer

logger = logging.getLogger(__name__)


def train(
    cells: Cells,
    folder: str | Path,
    training: TrainingParameters | None = None,
    process: ProcessParameters | None = None,
    network: NetworkParameters | None = None,
) -> DiffusionModel:
    """Train a diffusion model on the training people's cells (Ho et al. 2020, Algorithm 1).

    A training that was killed goes on where it was when it is asked for again; one that is finished is not repeated.

    Args:
        cells: Packed and split, see `pack`.
        folder: Where the training is kept, in a folder of its identity; several may share it.
        training: How; None: as `TrainingParameters` has it.
        process: Which process; None: as `ProcessParameters` has it.
        network: Which network; None: as `NetworkParameters` has it.

    Returns:
        The model with the averaged weights that come closest to the validation people's cells.

    Raises:
        UserError: sizes that do not fit, a training longer than is asked for, or one that diverges.
    """
    training = training or TrainingParameters()
    process, network = process or ProcessParameters(), network or NetworkParameters()
    plan = plan_training(cells, process, network, training, SamplingParameters())
    record, _ = train_ddpm(cells, plan, training, Path(folder))
    return export_ddpm(record, plan, Path(folder))


def plan_training(
    cells: Cells,
    process: ProcessParameters,
    network: NetworkParameters,
    training: TrainingParameters,
    sampling: SamplingParameters,
) -> dict[str, Any]:
    """Name the training and find out, before it starts, whether everything asked for is possible.

    Returns:
        The lineage that the finished model will carry, see `diffusion.model.Lineage`.
    """
    import torch

    from malaria_diffusion.compute.device import resolve_device
    from malaria_diffusion.diffusion.sampling import check_sampling, labels_to_sample
    from malaria_diffusion.diffusion.training.data import TrainingData
    from malaria_diffusion.diffusion.training.objective import Objective
    from malaria_diffusion.diffusion.training.trainer import training_identity, training_settings

    class_names = cells.class_names
    labels_to_sample(sampling.count, class_names)
    objective = Objective(process, network, training, cells.size, len(class_names), torch.float32)
    check_sampling(sampling, process.timesteps, objective.null_class, training.guide_epochs is not None)
    resolve_device(sampling.device)
    parameter_count = sum(weight.numel() for weight in objective.parameters())

    trained_on = cells.part("train")
    people = sorted(set(trained_on.people.tolist()))
    data = TrainingData.of(cells)
    identity = training_identity(
        training_settings(data.fingerprint, cells.size, len(class_names), process, network, training)
    )
    logger.info(
        "training %s: %d cells of %d people, a network of %.1f M parameters",
        identity,
        len(trained_on),
        len(people),
        parameter_count / 1e6,
    )
    observer().set_tags(training_identity=identity)
    lineage = Lineage(
        identity=identity,
        epochs=training.epochs,
        images_seen=training.epochs * (len(trained_on) // training.batch_size) * training.batch_size,
        cells_fingerprint=cells.fingerprint,
        training_cells_fingerprint=training_cells_fingerprint(cells.table),
        class_names=class_names,
        size=cells.size,
        training_people=people,
        training_people_hash=fingerprint_names(people),
        training_cells=short_hashes(trained_on.table),
        phantom=bool(trained_on.table["phantom"].any()),
        grey=cells.grey,
        process=process,
        network=network,
        training=training,
    )
    return lineage.model_dump(mode="json")


def train_ddpm(
    cells: Cells, training_plan: dict[str, Any], training: TrainingParameters, workspace: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train, continue, or do nothing, in the folder that belongs to the training's identity."""
    from malaria_diffusion.diffusion.training.data import TrainingData
    from malaria_diffusion.diffusion.training.trainer import EpochReport, epochs_done, train

    lineage = Lineage.model_validate(training_plan)
    folder = workspace / "ddpm" / lineage.identity
    done = epochs_done(folder)
    if done > training.epochs:
        raise UserError(
            f"training {lineage.identity} has {done} epochs behind it, diffusion.training.epochs asks for "
            f"{training.epochs}: what is trained is never shortened. Set epochs to {done} or more, or another seed"
        )
    if done:
        todo = "nothing to do" if done == training.epochs else f"going on to {training.epochs}"
        logger.info("training %s has %d epochs behind it: %s", lineage.identity, done, todo)

    def report(epoch: EpochReport) -> None:
        observer().log_curves(epoch.history.drop(columns=["epoch", "step"]), "ddpm")
        if epoch.images_per_second:
            observer().log_metrics({"ddpm": {"images_per_second": epoch.images_per_second}})
        if epoch.images is not None:
            labels = pd.Series([lineage.class_names[label] for label in epoch.labels])
            figure = figures.sheet(epoch.images, labels, lineage.kind)
            observer().log_figure(figure, f"ddpm_samples/epoch_{epoch.epoch:04d}.png")

    history = train(TrainingData.of(cells), lineage.process, lineage.network, training, folder, report)
    record = {"identity": lineage.identity, "epochs": training.epochs}
    observer().log_curves(history.drop(columns=["epoch", "step"]), "ddpm")
    return record, history


def export_ddpm(ddpm_checkpoint: dict[str, Any], training_plan: dict[str, Any], workspace: Path) -> DiffusionModel:
    """The model with the best averaged weights, and its lineage.

    Raises:
        UserError: what was trained is not what is planned.
    """
    from malaria_diffusion.diffusion.training.trainer import load_best_weights, load_guide_weights, training_seconds

    (identity, epochs), asked = ((of["identity"], of["epochs"]) for of in (ddpm_checkpoint, training_plan))
    if (identity, epochs) != asked:
        raise UserError(
            f"what was trained is {identity}, {epochs} epochs, but the parameters now ask for {asked[0]}, {asked[1]}: "
            "train that, or set them back",
            Remedy.TRAINING,
        )
    trained = workspace / "ddpm" / identity
    best = load_best_weights(trained)
    logger.info("exporting epoch %d, kernel distance %.4f to the validation cells", best.epoch, best.kernel_distance)
    observer().log_metrics({"ddpm": {"best_epoch": best.epoch, "best_kernel_distance": best.kernel_distance}})
    known = {"best_epoch": best.epoch, "kernel_distance": best.kernel_distance, "ema_decay": best.ema_decay}
    made = {"training_seconds": training_seconds(trained), "software": software()}
    lineage = Lineage.model_validate(training_plan | known | made)
    guided_by = lineage.training.guide_epochs
    guide = None if guided_by is None else load_guide_weights(trained, guided_by)
    return DiffusionModel.from_weights(best.weights, lineage, guide)
