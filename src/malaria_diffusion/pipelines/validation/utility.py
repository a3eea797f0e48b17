"""What synthetic cells are worth to a classifier."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.cells.split import cell_names
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.trainer import resolve_weights
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.questions.utility.config import UtilityParameters
from malaria_diffusion.questions.utility.figure import utility_figure
from malaria_diffusion.questions.utility.measure import cells_per_epoch, run_trial, utility_table
from malaria_diffusion.questions.utility.trials import Arm, Source, rows_of_share, training_set, trials
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.tracking import log as tracking

logger = logging.getLogger(__name__)


def measure_utility(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    dataset_summary: dict[str, Any],
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    synthetic_lineage: dict[str, Any],
    compared_rows: dict[str, list[int]],
    class_names: list[str],
    sampling: SamplingParameters,
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    utility: UtilityParameters,
    workspace: Path,
) -> pd.DataFrame:
    """Train and judge every classifier of the study that is not trained and judged yet.

    compared_rows is an input so that nothing is trained on synthetic cells that are refused.
    """
    labels = cell_table["label"].map(class_names.index).to_numpy(np.int64)
    generated_labels = synthetic_table["label"].map(class_names.index).to_numpy(np.int64)
    val = np.flatnonzero(cell_table["split"] == "val")
    weights = resolve_weights(classifier.weights, workspace)
    listed = trials(utility)
    results = {}
    for number, trial in enumerate(listed, 1):
        logger.info("utility %d of %d: %s", number, len(listed), trial)
        sources: list[Source] = []
        rows = rows_of_share(cell_table, trial.share, trial.seed)
        if trial.arm is not Arm.SYNTHETIC:
            sources.append((cells[rows], labels[rows]))
        if trial.arm is Arm.AUGMENTATION:
            names = fingerprint_names(cell_names(cell_table).iloc[rows])
            fingerprint = f"{dataset_summary['fingerprint']} {names}"
            few = (cells, labels, rows, val, len(class_names), fingerprint, dataset_summary["grey"])
            images = _generate_from(few, synthetic_lineage, sampling, generated_labels, utility, trial.seed, workspace)
            sources.append((images, generated_labels))
        elif trial.arm is not Arm.REAL:
            sources.append((synthetic_cells[:], generated_labels))
        given = training_set(
            sources, (cells[val], labels[val]), cells_per_epoch(utility.steps, classifier), len(class_names), trial.seed
        )
        results[trial] = run_trial(
            trial,
            given,
            cells,
            cell_table,
            class_names,
            comparison.positive_class,
            classifier,
            workspace / "utility" / "classifiers",
            weights,
        )
    table = utility_table(results, Bootstrap.of(comparison))
    for row in table.to_dict("records"):
        measured = {name: row[name] for name in ("accuracy", "low", "high")}
        tracking.log_metrics({"utility": {f"{row['arm']} at share {row['share']:g}": measured}})
    return table


def draw_utility(utility_metrics: pd.DataFrame, dataset_summary: dict[str, Any]) -> Figure:
    """Learning curves of every arm."""
    return utility_figure(utility_metrics, dataset_summary["images"], dataset_summary["unseen"])


def create_pipeline() -> Pipeline:
    """Utility: real and synthetic cells in, accuracies of the arms out."""
    return Pipeline(
        [
            Node(
                measure_utility,
                inputs=[
                    "cells",
                    "cell_table",
                    "dataset_summary",
                    "synthetic_cells",
                    "synthetic_table",
                    "synthetic_lineage",
                    "compared_rows",
                    "class_names",
                    "params:diffusion.sampling",
                    "params:validation.classifier",
                    "params:validation.comparison",
                    "params:validation.utility",
                    "workspace",
                ],
                outputs="utility_metrics",
                name="measure_utility",
            ),
            Node(
                draw_utility,
                inputs=["utility_metrics", "dataset_summary"],
                outputs="figure_utility",
                name="draw_utility",
            ),
        ],
        tags="utility",
    )


def _generate_from(
    few: tuple[Any, ...],
    lineage: dict[str, Any],
    sampling: SamplingParameters,
    labels: NDArray[np.int64],
    utility: UtilityParameters,
    seed: int,
    workspace: Path,
) -> NDArray[np.uint8]:
    """Cells of a DDPM like the one at hand, trained on few people alone."""
    from malaria_diffusion.diffusion.config import NetworkParameters, ProcessParameters, TrainingParameters
    from malaria_diffusion.diffusion.training.data import TrainingData
    from malaria_diffusion.questions.utility.small_ddpm import cells_of_small_ddpm, small_training

    data = TrainingData(*few)
    whole = TrainingParameters.model_validate(lineage["training"])
    training = small_training(whole, len(data.train_rows), utility.ddpm_images, data.num_classes, seed)
    return cells_of_small_ddpm(
        data,
        ProcessParameters.model_validate(lineage["process"]),
        NetworkParameters.model_validate(lineage["network"]),
        training,
        sampling,
        labels,
        workspace / "utility" / "ddpm",
    )
