"""Nodes of the diffusion pipeline. torch is imported where it is used, so that listing pipelines stays quick."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_names, short_hashes
from malaria_diffusion.cells.split import training_cells_fingerprint
from malaria_diffusion.diffusion.config import (
    BoundParameters,
    NetworkParameters,
    ProcessParameters,
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.diffusion.lineage import Lineage, software
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.statistics.comparison import per_class_number
from malaria_diffusion.tracking import log as tracking

logger = logging.getLogger(__name__)


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
    tracking.set_tags(training_identity=identity)
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
        tracking.log_curves(epoch.history.drop(columns=["epoch", "step"]), "ddpm")
        if epoch.images_per_second:
            tracking.log_metrics({"ddpm": {"images_per_second": epoch.images_per_second}})
        if epoch.images is not None:
            labels = pd.Series([lineage.class_names[label] for label in epoch.labels])
            figure = figures.sheet(epoch.images, labels, _kind(lineage.phantom))
            tracking.log_figure(figure, f"ddpm_samples/epoch_{epoch.epoch:04d}.png")

    history = train(TrainingData.of(cells), lineage.process, lineage.network, training, folder, report)
    record = {"identity": lineage.identity, "epochs": training.epochs}
    tracking.log_curves(history.drop(columns=["epoch", "step"]), "ddpm")
    return record, history


def export_ddpm(ddpm_checkpoint: dict[str, Any], training_plan: dict[str, Any], workspace: Path) -> DiffusionModel:
    """The model with the best averaged weights, and its lineage."""
    from malaria_diffusion.diffusion.training.trainer import load_best_weights, load_guide_weights, training_seconds

    trained = workspace / "ddpm" / ddpm_checkpoint["identity"]
    best = load_best_weights(trained)
    logger.info("exporting epoch %d, kernel distance %.4f to the validation cells", best.epoch, best.kernel_distance)
    tracking.log_metrics({"ddpm": {"best_epoch": best.epoch, "best_kernel_distance": best.kernel_distance}})
    known = {"best_epoch": best.epoch, "kernel_distance": best.kernel_distance, "ema_decay": best.ema_decay}
    made = {"training_seconds": training_seconds(trained), "software": software()}
    lineage = Lineage.model_validate(training_plan | known | made)
    guide = None if lineage.training.guide_epochs is None else load_guide_weights(trained)
    return DiffusionModel.from_weights(best.weights, lineage, guide)


def sample_cells(ddpm: DiffusionModel, sampling: SamplingParameters) -> Cells:
    """Generate cells with the stored model; needs neither training nor the cells it was trained on."""
    return ddpm.generate(sampling)


def measure_bound(
    cells: Cells, ddpm: DiffusionModel, bound: BoundParameters, sampling: SamplingParameters
) -> dict[str, Any]:
    """The variational bound on cells of the test people, term by term, and the ends of the schedule.

    Returns:
        JSON-ready, all terms in bits per dimension: images and people (their numbers), prior (L_T), by variance the
        fields of `diffusion.bound.Terms`, steps (where the curves' points lie), and schedule, see `ScheduleEnds`.
    """
    from malaria_diffusion.compute.device import resolve_device
    from malaria_diffusion.diffusion.bound import variational_bound
    from malaria_diffusion.diffusion.process.schedule import schedule_ends

    test = cells.part("test")
    per_class = max(1, per_class_number(bound.images, test.table))
    chosen = test.balanced(per_class, np.random.default_rng(bound.seed))
    device = resolve_device(sampling.device)
    found = variational_bound(ddpm.denoiser, chosen, bound, device)
    measured = {
        "images": len(chosen),
        "people": len(set(chosen.people.tolist())),
        "prior": found.prior,
        "variances": {
            variance.value: terms._asdict() | {"curve": terms.curve.tolist()} for variance, terms in found.terms.items()
        },
        "steps": found.steps.tolist(),
        "schedule": schedule_ends(ddpm.diffusion.schedule)._asdict(),
    }
    tracking.log_metrics({"bound": measured})
    return measured


def draw_sheet(synthetic_cells: Cells) -> Figure:
    """A sheet of what was generated."""
    return figures.sheet(synthetic_cells.pixels, synthetic_cells.table["label"], _kind(synthetic_cells.phantom))


def write_images(synthetic_cells: Cells) -> Cells:
    """Synthetic cells as files for other people: PNG images that say what they are, with a manifest."""
    return synthetic_cells


def draw_process(cells: Cells, ddpm: DiffusionModel, sampling: SamplingParameters) -> Figure:
    """Figure 1: noise added to a cell of the test people step by step, and removed again by the network."""
    from malaria_diffusion.diffusion.trajectories import forward_trajectory, reverse_trajectory

    first = cells.part("test")[[0]]
    forward = forward_trajectory(ddpm.diffusion, first.pixels[0], sampling.seed)
    reverse = reverse_trajectory(ddpm, int(first.classes[0]), sampling)
    return figures.process(forward, reverse, str(first.labels[0]), _kind(ddpm.lineage.phantom))


def draw_bound(variational_bound: dict[str, Any], cells: Cells) -> Figure:
    """Figure 8: the bound's terms, step by step and summed."""
    return figures.bound(variational_bound, cells.caption)


def draw_training(training_history: pd.DataFrame, training_plan: dict[str, Any]) -> Figure:
    """Figure 7: the DDPM's loss."""
    return figures.loss_curve(training_history, _kind(training_plan["phantom"]))


def _kind(phantom: bool) -> str:
    return "phantom cells" if phantom else "real cells"
