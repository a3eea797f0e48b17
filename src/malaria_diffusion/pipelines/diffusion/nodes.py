"""Nodes of the diffusion pipeline. torch is imported where it is used, so that listing pipelines stays quick."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.export import SyntheticImages
from malaria_diffusion.cells.fingerprint import fingerprint_names, short_hashes
from malaria_diffusion.cells.split import training_cells_fingerprint, training_rows
from malaria_diffusion.diffusion.config import (
    BoundParameters,
    NetworkParameters,
    ProcessParameters,
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.errors import UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.pipelines.training_data import training_data
from malaria_diffusion.statistics.comparison import balanced_rows, per_class_number
from malaria_diffusion.tracking import log as tracking

logger = logging.getLogger(__name__)


def plan_training(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    dataset_summary: dict[str, Any],
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
    from malaria_diffusion.diffusion.model import Lineage
    from malaria_diffusion.diffusion.sampling import check_sampling, labels_to_sample
    from malaria_diffusion.diffusion.training.objective import Objective
    from malaria_diffusion.diffusion.training.trainer import training_identity, training_settings

    class_names = sorted(cell_table["label"].unique())
    size = int(cells.shape[-1])
    labels_to_sample(sampling.count, class_names)
    objective = Objective(process, network, training, size, len(class_names), torch.float32)
    check_sampling(sampling, process.timesteps, objective.null_class, training.guide_epochs is not None)
    resolve_device(sampling.device)
    parameter_count = sum(weight.numel() for weight in objective.parameters())

    trained_on = cell_table[training_rows(cell_table)]
    people = sorted(trained_on["person"].unique())
    cells_fingerprint = dataset_summary["fingerprint"]
    data = training_data(cells, cell_table, cells_fingerprint)
    identity = training_identity(
        training_settings(data.fingerprint, size, len(class_names), process, network, training)
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
        cells_fingerprint=cells_fingerprint,
        training_cells_fingerprint=training_cells_fingerprint(cell_table),
        class_names=class_names,
        size=size,
        training_people=people,
        training_people_hash=fingerprint_names(people),
        training_cells=short_hashes(trained_on),
        phantom=bool(trained_on["phantom"].any()),
        grey=data.grey,
        process=process,
        network=network,
        training=training,
    )
    return lineage.model_dump(mode="json")


def train_ddpm(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    training_plan: dict[str, Any],
    training: TrainingParameters,
    workspace: Path,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train, continue, or do nothing, in the folder that belongs to the training's identity."""
    from malaria_diffusion.diffusion.model import Lineage
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

    data = training_data(cells, cell_table, lineage.cells_fingerprint)
    history = train(data, lineage.process, lineage.network, training, folder, report)
    record = {"identity": lineage.identity, "epochs": training.epochs}
    tracking.log_curves(history.drop(columns=["epoch", "step"]), "ddpm")
    return record, history


def export_ddpm(ddpm_checkpoint: dict[str, Any], training_plan: dict[str, Any], workspace: Path) -> Path:
    """Write the best averaged weights in diffusers' format, with their lineage."""
    from malaria_diffusion.compute.device import resolve_device
    from malaria_diffusion.compute.distributed import join_processes
    from malaria_diffusion.diffusion.model import DiffusionModel, Lineage
    from malaria_diffusion.diffusion.training.trainer import load_best_weights, load_guide_weights

    trained = workspace / "ddpm" / ddpm_checkpoint["identity"]
    best = load_best_weights(trained)
    logger.info("exporting epoch %d, kernel distance %.4f to the validation cells", best.epoch, best.kernel_distance)
    tracking.log_metrics({"ddpm": {"best_epoch": best.epoch, "best_kernel_distance": best.kernel_distance}})
    lineage = Lineage.model_validate(
        training_plan | {"best_epoch": best.epoch, "kernel_distance": best.kernel_distance, "ema_decay": best.ema_decay}
    )
    folder = workspace / "export"
    processes = join_processes(resolve_device(lineage.training.device))
    if processes.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        guide = None if lineage.training.guide_epochs is None else load_guide_weights(trained)
        DiffusionModel.from_weights(best.weights, lineage, guide).save(folder)
    processes.wait()
    return folder


def sample_cells(ddpm: Path, sampling: SamplingParameters) -> tuple[NDArray[np.uint8], pd.DataFrame, dict[str, Any]]:
    """Generate cells with the stored model; needs neither training nor the cells it was trained on."""
    from malaria_diffusion.diffusion.model import DiffusionModel
    from malaria_diffusion.diffusion.sampling import labels_to_sample

    model = DiffusionModel.load(ddpm)
    lineage = model.lineage
    labels = labels_to_sample(sampling.count, lineage.class_names)
    images = model.sample(labels, sampling)
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "label": [lineage.class_names[label] for label in labels],
            "seed": sampling.seed,
            "solver": sampling.solver.value,
            "evaluations": sampling.evaluations or lineage.process.timesteps,
            "guidance": sampling.guidance,
            "variance": sampling.variance.value,
            "clipping": sampling.clipping.value,
            "model_identity": lineage.identity,
            "cells_fingerprint": lineage.cells_fingerprint,
            "training_people_hash": lineage.training_people_hash,
        }
    )
    return images, table, lineage.model_dump(mode="json")


def measure_bound(
    cells: NDArray[np.uint8], cell_table: pd.DataFrame, ddpm: Path, bound: BoundParameters, sampling: SamplingParameters
) -> dict[str, Any]:
    """The variational bound on cells of the test people, term by term, and the ends of the schedule.

    Returns:
        JSON-ready, all terms in bits per dimension: images (their number), prior (L_T), by variance the fields of
        `diffusion.bound.Terms`, steps (where the curves' points lie), and schedule, see `ScheduleEnds`.
    """
    from malaria_diffusion.compute.device import resolve_device
    from malaria_diffusion.diffusion.bound import variational_bound
    from malaria_diffusion.diffusion.model import DiffusionModel
    from malaria_diffusion.diffusion.process.schedule import schedule_ends

    model = DiffusionModel.load(ddpm)
    test = cell_table.loc[cell_table["split"] == "test", "label"]
    per_class = max(1, per_class_number(bound.images, test.to_frame()))
    rows = balanced_rows(test, per_class, np.random.default_rng(bound.seed))
    labels = test[rows].map(model.lineage.class_names.index).to_numpy(np.int64)
    device = resolve_device(sampling.device)
    found = variational_bound(model.network, model.diffusion, cells[rows], labels, bound, device)
    measured = {
        "images": len(rows),
        "prior": found.prior,
        "variances": {
            variance.value: terms._asdict() | {"curve": terms.curve.tolist()} for variance, terms in found.terms.items()
        },
        "steps": found.steps.tolist(),
        "schedule": schedule_ends(model.diffusion.schedule)._asdict(),
    }
    tracking.log_metrics({"bound": measured})
    return measured


def draw_sheet(
    synthetic_cells: NDArray[np.uint8], synthetic_table: pd.DataFrame, synthetic_lineage: dict[str, Any]
) -> Figure:
    """A sheet of what was generated."""
    return figures.sheet(synthetic_cells, synthetic_table["label"], _kind(synthetic_lineage["phantom"]))


def write_images(
    synthetic_cells: NDArray[np.uint8], synthetic_table: pd.DataFrame, synthetic_lineage: dict[str, Any]
) -> SyntheticImages:
    """Synthetic cells as files for other people: PNG images that say what they are, with a manifest."""
    return SyntheticImages(synthetic_cells, synthetic_table, synthetic_lineage)


def draw_process(
    cells: NDArray[np.uint8], cell_table: pd.DataFrame, ddpm: Path, sampling: SamplingParameters
) -> Figure:
    """Figure 1: noise added to a cell of the test people step by step, and removed again by the network."""
    from malaria_diffusion.diffusion.model import DiffusionModel
    from malaria_diffusion.diffusion.trajectories import forward_trajectory, reverse_trajectory

    model = DiffusionModel.load(ddpm)
    row = int(np.flatnonzero(cell_table["split"] == "test")[0])
    label = cell_table["label"].iloc[row]
    forward = forward_trajectory(model.diffusion, cells[row], sampling.seed)
    reverse = reverse_trajectory(model, model.lineage.class_names.index(label), sampling)
    return figures.process(forward, reverse, label, _kind(model.lineage.phantom))


def draw_bound(variational_bound: dict[str, Any], dataset_summary: dict[str, Any]) -> Figure:
    """Figure 8: the bound's terms, step by step and summed."""
    return figures.bound(variational_bound, f"{dataset_summary['images']} of {dataset_summary['unseen']}")


def draw_training(training_history: pd.DataFrame, training_plan: dict[str, Any]) -> Figure:
    """Figure 7: the DDPM's loss."""
    return figures.loss_curve(training_history, _kind(training_plan["phantom"]))


def _kind(phantom: bool) -> str:
    return "phantom cells" if phantom else "real cells"
