"""Nodes of the diffusion pipeline. torch is imported where it is used, so that listing pipelines stays quick."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.fingerprint import check_cells, fingerprint_names, short_hashes
from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.ddpm.parameters import (
    NetworkParameters,
    ProcessParameters,
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.errors import UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.pipelines import tracking

logger = logging.getLogger(__name__)

GRID = {"per_class": 8, "evaluations": 20}


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
        The lineage that the finished model will carry, see `ddpm.model.Lineage`.
    """
    from malaria_diffusion.ddpm.device import resolve_device
    from malaria_diffusion.ddpm.model import Lineage
    from malaria_diffusion.ddpm.network import build_network
    from malaria_diffusion.ddpm.sampling import check_evaluations, labels_to_sample
    from malaria_diffusion.ddpm.training import training_identity

    class_names = sorted(cell_table["label"].unique())
    size = int(cells.shape[-1])
    labels_to_sample(sampling.count, class_names)
    check_evaluations(sampling, process.timesteps)
    resolve_device(sampling.device)
    parameter_count = sum(weight.numel() for weight in build_network(network, size, len(class_names)).parameters())

    trained_on = cell_table[training_rows(cell_table)]
    people = sorted(trained_on["person"].unique())
    cells_fingerprint = dataset_summary["fingerprint"]
    check_cells(cells, cell_table, cells_fingerprint)
    cells_hash = fingerprint_names(trained_on["label"] + "/" + trained_on["name"])
    identity = training_identity(cells_fingerprint, cells_hash, process, network, training)
    logger.info(
        "training %s: %d cells of %d people, a network of %.1f M parameters",
        identity,
        len(trained_on),
        len(people),
        parameter_count / 1e6,
    )
    tracking.set_tags(training_identity=identity, data_fingerprint=cells_fingerprint)
    lineage = Lineage(
        identity=identity,
        epochs=training.epochs,
        images_seen=training.epochs * (len(trained_on) // training.batch_size) * training.batch_size,
        cells_fingerprint=cells_fingerprint,
        class_names=class_names,
        size=size,
        training_people=people,
        training_people_hash=fingerprint_names(people),
        training_cells=short_hashes(trained_on),
        phantom=bool(trained_on["phantom"].any()),
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
    from malaria_diffusion.ddpm.model import Lineage
    from malaria_diffusion.ddpm.training import EpochReport, TrainingData, epochs_done, train

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
        tracking.log_curves(epoch.history.drop(columns=["epoch", "images_seen"]), "step", "ddpm")
        if epoch.images_per_second:
            tracking.log_metrics({"ddpm": {"images_per_second": epoch.images_per_second}})
        if epoch.epoch % training.grid_epochs == 0 or epoch.epoch == training.epochs:
            figure = _grid(epoch.network, lineage, training)
            tracking.log_figure(figure, f"ddpm_samples/epoch_{epoch.epoch:04d}.png")

    rows = np.arange(len(cell_table))
    data = TrainingData(
        cells=cells,
        labels=cell_table["label"].map(lineage.class_names.index).to_numpy(np.int64),
        train_rows=rows[training_rows(cell_table)],
        val_rows=rows[cell_table["split"] == "val"],
        num_classes=len(lineage.class_names),
    )
    history = train(data, lineage.process, lineage.network, training, folder, report)
    record = {"identity": lineage.identity, "epochs": training.epochs}
    tracking.log_curves(history.drop(columns=["epoch", "images_seen"]), "step", "ddpm")
    return record, history


def export_ddpm(ddpm_checkpoint: dict[str, Any], training_plan: dict[str, Any], workspace: Path) -> Path:
    """Write the averaged weights in diffusers' format, with their lineage."""
    from malaria_diffusion.ddpm.model import Lineage, model_from_weights, save_model
    from malaria_diffusion.ddpm.training import load_averaged_weights

    weights = load_averaged_weights(workspace / "ddpm" / ddpm_checkpoint["identity"])
    folder = workspace / "export"
    shutil.rmtree(folder, ignore_errors=True)
    save_model(model_from_weights(weights, Lineage.model_validate(training_plan)), folder)
    return folder


def sample_cells(ddpm: Path, sampling: SamplingParameters) -> tuple[NDArray[np.uint8], pd.DataFrame, dict[str, Any]]:
    """Generate cells with the stored model; needs neither training nor the cells it was trained on."""
    from malaria_diffusion.ddpm.model import load_model
    from malaria_diffusion.ddpm.sampling import labels_to_sample, sample

    model = load_model(ddpm)
    lineage = model.lineage
    labels = labels_to_sample(sampling.count, lineage.class_names)
    images = sample(model.network, model.diffusion, labels, lineage.size, sampling)
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels)),
            "label": [lineage.class_names[label] for label in labels],
            "seed": sampling.seed,
            "solver": sampling.solver.value,
            "evaluations": sampling.evaluations or lineage.process.timesteps,
            "model_identity": lineage.identity,
            "cells_fingerprint": lineage.cells_fingerprint,
            "training_people_hash": lineage.training_people_hash,
        }
    )
    return images, table, lineage.model_dump(mode="json")


def draw_sheet(
    synthetic_cells: NDArray[np.uint8], synthetic_table: pd.DataFrame, synthetic_lineage: dict[str, Any]
) -> Figure:
    """A sheet of what was generated."""
    return figures.sheet(synthetic_cells, synthetic_table["label"], _kind(synthetic_lineage["phantom"]))


def draw_process(
    cells: NDArray[np.uint8], cell_table: pd.DataFrame, ddpm: Path, sampling: SamplingParameters
) -> Figure:
    """Figure 1: noise added to a cell of the test people step by step, and removed again by the network."""
    from malaria_diffusion.ddpm.film import forward_film, reverse_film
    from malaria_diffusion.ddpm.model import load_model

    model = load_model(ddpm)
    row = int(np.flatnonzero(cell_table["split"] == "test")[0])
    label = cell_table["label"].iloc[row]
    forward = forward_film(model.diffusion, cells[row], sampling.seed)
    reverse = reverse_film(model, model.lineage.class_names.index(label), sampling)
    return figures.process(forward, reverse, label, _kind(model.lineage.phantom))


def draw_training(training_history: pd.DataFrame, training_plan: dict[str, Any]) -> Figure:
    """Figure 7: the DDPM's loss."""
    return figures.loss_curve(training_history, _kind(training_plan["phantom"]))


def _grid(network: Any, lineage: Any, training: TrainingParameters) -> Figure:
    from malaria_diffusion.ddpm.process import GaussianDiffusion
    from malaria_diffusion.ddpm.sampling import labels_to_sample, sample

    sampling = SamplingParameters(
        count=GRID["per_class"],
        seed=training.seed,
        solver="dpm-solver++",
        evaluations=min(GRID["evaluations"], lineage.process.timesteps),
        batch_size=64,
        precision=training.precision,
        device=training.device,
    )
    labels = labels_to_sample(sampling.count, lineage.class_names)
    diffusion = GaussianDiffusion.from_parameters(lineage.process)
    images = sample(network, diffusion, labels, lineage.size, sampling, progress=False)
    return figures.sheet(images, pd.Series([lineage.class_names[label] for label in labels]), _kind(lineage.phantom))


def _kind(phantom: bool) -> str:
    return "phantom cells" if phantom else "real cells"
