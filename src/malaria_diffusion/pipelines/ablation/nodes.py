"""Nodes of the ablation pipeline. torch is imported where it is used, so that listing pipelines stays quick."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.config import (
    NetworkParameters,
    ProcessParameters,
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.observer import Observer, observer
from malaria_diffusion.studies.ablation.claims import judge_claims
from malaria_diffusion.studies.ablation.figure import ablation_figure
from malaria_diffusion.studies.ablation.values import (
    Training,
    check_images,
    process_of,
    training_of,
    values_to_train,
)
from malaria_diffusion.studies.config import AblationParameters

logger = logging.getLogger(__name__)


def plan_ablation(
    cells: Cells,
    process: ProcessParameters,
    network: NetworkParameters,
    training: TrainingParameters,
    sampling: SamplingParameters,
    ablation: AblationParameters,
) -> list[Training]:
    """Name every training and find out, before the first starts, whether everything asked for is possible."""
    import torch

    from malaria_diffusion.compute.device import resolve_device
    from malaria_diffusion.diffusion.sampling import check_sampling
    from malaria_diffusion.diffusion.training.data import TrainingData
    from malaria_diffusion.diffusion.training.objective import Objective
    from malaria_diffusion.diffusion.training.trainer import training_identity, training_settings

    check_images(ablation, cells.part("train").table["label"])
    resolve_device(sampling.device)
    data, size = TrainingData.of(cells), cells.size
    trainings = []
    for value in values_to_train(ablation):
        its_process, its_training = process_of(value, process, ablation), training_of(value, training, ablation)
        objective = Objective(its_process, network, its_training, size, data.num_classes, torch.float32)
        check_sampling(
            sampling.model_copy(update={"evaluations": None, "guidance": 1.0}), value.timesteps, objective.null_class
        )
        settings = training_settings(data.fingerprint, size, data.num_classes, its_process, network, its_training)
        trainings.append(Training(value, its_process, its_training, training_identity(settings)))
    logger.info("%d trainings of %d epochs each", len(trainings), ablation.epochs)
    return trainings


def train_ablation(
    cells: Cells,
    ablation_plan: list[Training],
    network: NetworkParameters,
    workspace: Path,
) -> dict[str, Path]:
    """Train what is not trained yet, in the folders of the diffusion pipeline; return them by identity."""
    from malaria_diffusion.diffusion.training.data import TrainingData
    from malaria_diffusion.diffusion.training.trainer import EpochReport, epochs_done, train

    data = TrainingData.of(cells)
    folders = {training.identity: workspace / "ddpm" / training.identity for training in ablation_plan}
    for number, training in enumerate(ablation_plan, 1):
        folder, epochs = folders[training.identity], training.training.epochs
        done = epochs_done(folder)
        todo = "nothing to do" if done == epochs else f"training to {epochs}"
        logger.info("%d of %d: %s: %d epochs behind it, %s", number, len(ablation_plan), training.value, done, todo)

        with _child(training) as child:

            def report(epoch: EpochReport, prefix: str = _metric(*training.value), child: Observer = child) -> None:
                curves = epoch.history[["images_seen", "loss", "val_loss"]]
                observer().log_curves(curves, f"{prefix}.training")
                child.log_curves(curves, "training")

            train(data, training.process, network, training.training, folder, report)
    return folders


def measure_ablation(
    cells: Cells,
    ablation_plan: list[Training],
    ablation_folders: dict[str, Path],
    network: NetworkParameters,
    sampling: SamplingParameters,
    ablation: AblationParameters,
    workspace: Path,
) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """Measure what is not measured yet: quality, distance to the training cells, losses and costs."""
    from malaria_diffusion.studies.ablation.study import Study, tabulate

    study = Study(cells, network, sampling, ablation.images, workspace / "ablation")
    floor, measured = study.floor(), {}
    for number, training in enumerate(ablation_plan, 1):
        logger.info("%d of %d: measuring %s", number, len(ablation_plan), training.value)
        with _child(training) as child:
            measured[training.identity] = study.measurement(training, ablation_folders[training.identity])
            child.log_metrics({"ablation": measured[training.identity].measures._asdict()})
    table, shown = tabulate(measured, ablation_plan, floor, ablation)
    for row in table.to_dict("records"):
        observer().log_metrics({_metric(row["timesteps"], row["betas"], row["seed"]): row})
    return table, shown


def judge_ablation(ablation_table: pd.DataFrame, cells: Cells) -> pd.DataFrame:
    """What the study says about the paper's claims, with the fingerprint of the data that say it."""
    claims = judge_claims(ablation_table).assign(fingerprint=cells.fingerprint)
    for claim in claims.itertuples():
        logger.info("%s (%s betas): %s; %s", claim.claim, claim.betas, claim.verdict, claim.measured)
    return claims


def draw_ablation(
    ablation_table: pd.DataFrame,
    ablation_claims: pd.DataFrame,
    ablation_samples: NDArray[np.uint8],
    cells: Cells,
) -> Figure:
    """Figure 9: quality, overfitting and cost by the number of steps, and images."""
    return ablation_figure(ablation_table, ablation_claims, ablation_samples, cells.kind)


def _child(training: Training) -> AbstractContextManager[Observer]:
    """The run of a training below the study's, the same when it is trained and when it is measured."""
    value = training.value
    parameters = value._asdict() | {
        "betas": value.betas.value,
        "beta_start": training.process.beta_start,
        "beta_end": training.process.beta_end,
        "epochs": training.training.epochs,
        "identity": training.identity,
    }
    return observer().child_run(str(value), parameters)


def _metric(timesteps: int, betas: str, seed: int) -> str:
    return f"ablation.{betas}.T_{timesteps}.seed_{seed}"
