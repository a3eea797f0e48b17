"""What synthetic cells are worth to a classifier."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.classifier.config import ClassifierParameters, Recipe
from malaria_diffusion.classifier.metrics import prediction_table
from malaria_diffusion.classifier.trainer import resolve_weights
from malaria_diffusion.compute.pool import one_thread_each, threads_for
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.lineage import Lineage
from malaria_diffusion.observer import observer
from malaria_diffusion.questions.question import Step
from malaria_diffusion.questions.utility.config import Arm, UtilityParameters
from malaria_diffusion.questions.utility.figure import utility_figure
from malaria_diffusion.questions.utility.measure import cells_shown, run_trial, utility_table
from malaria_diffusion.questions.utility.trials import (
    TrainingSet,
    Trial,
    part_of_each,
    rows_of_share,
    training_set,
    trials,
)
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters


def measure_utility(
    comparison: Comparison,
    sampling: SamplingParameters,
    classifier: ClassifierParameters,
    parameters: ComparisonParameters,
    utility: UtilityParameters,
    workspace: Path,
) -> pd.DataFrame:
    """Train and judge every classifier of the study that is not trained and judged yet."""
    cells, test = comparison.study, comparison.study.part("test")
    recipe = Recipe(classifier, workspace / "utility" / "classifiers", resolve_weights(classifier.weights, workspace))
    listed, results, given = trials(utility), {}, {}
    for trial in listed:
        if trial.arm is Arm.AUGMENTATION:  # it takes all threads, so before the others have them
            _generate_from(trial, comparison, sampling, utility, workspace)

    def calls() -> Iterator[tuple[Any, ...]]:
        pixels = test.pixels
        for trial in listed:
            it_has = _given(trial, comparison, sampling, classifier, utility, workspace)
            given[trial] = it_has._replace(cells=it_has.cells[:0].copy())  # a view would keep the pixels
            yield trial, it_has, cells.class_names, pixels, recipe

    answered = one_thread_each(run_trial, calls(), min(len(listed), threads_for(classifier.device)))
    with tqdm(total=len(listed), desc="utility", unit="classifier") as bar:
        for trial, probabilities in zip(listed, answered, strict=True):
            results[trial] = prediction_table(test, probabilities, cells.class_names, parameters.positive_class)
            with observer().child_run(str(trial), trial._asdict() | {"arm": trial.arm.value}) as child:
                child.log_metrics({"utility": _measured(given[trial], results[trial])})
            bar.update()
    table = utility_table(results, given, parameters.confidence)
    for row in table.to_dict("records"):
        measured = {name: row[name] for name in ("accuracy", "low", "high") if np.isfinite(row[name])}
        after = "" if row["steps"] == utility.budgets[-1] else f" after {row['steps']} steps"
        observer().log_metrics({"utility": {f"{row['arm']} at share {row['share']:g}{after}": measured}})
    return table


def _measured(given: TrainingSet, judged: pd.DataFrame) -> dict[str, Any]:
    """What one classifier was given, and how often it was right."""
    right = judged["label"] == judged["predicted"]
    recall = {f"recall_{label}": float(part.mean()) for label, part in right.groupby(judged["label"])}
    return {"accuracy": float(right.mean()), "real_cells": given.real, "synthetic_cells": given.synthetic} | recall


def draw_utility(utility_metrics: pd.DataFrame, comparison: Comparison) -> Figure:
    """Learning curves of every arm."""
    return utility_figure(utility_metrics, comparison.study.kind, comparison.study.about["unseen"])


def _given(
    trial: Trial,
    comparison: Comparison,
    sampling: SamplingParameters,
    classifier: ClassifierParameters,
    utility: UtilityParameters,
    workspace: Path,
) -> TrainingSet:
    """The cells of a trial."""
    cells, generated = comparison.study, comparison.generated
    rows = rows_of_share(cells.table, trial.share, trial.seed)
    all_synthetic = (generated.pixels[:], generated.classes)
    real, synthetic = (cells[rows].pixels, cells[rows].classes), all_synthetic
    none = (cells.pixels[:0], cells.classes[:0])
    match trial.arm:
        case Arm.REAL:
            synthetic = none
        case Arm.MATCHED:
            real, synthetic = part_of_each(real, all_synthetic, trial.seed), none
        case Arm.SYNTHETIC:
            real = none
        case Arm.AUGMENTATION:
            images = _generate_from(trial, comparison, sampling, utility, workspace)
            synthetic = (images, generated.classes)
    val, shown = cells.part("val"), cells_shown(trial.steps, classifier)
    return training_set(real, synthetic, (val.pixels, val.classes), shown, utility.synthetic_per_real, trial.seed)


def _generate_from(
    trial: Trial, comparison: Comparison, sampling: SamplingParameters, utility: UtilityParameters, workspace: Path
) -> NDArray[np.uint8]:
    """As many cells as there are synthetic ones, of a DDPM as theirs but trained on the trial's real cells alone."""
    from malaria_diffusion.questions.utility.small_ddpm import cells_of_small_ddpm, data_of_rows, small_training

    cells, like = comparison.study, comparison.generated
    lineage, rows = Lineage.model_validate(like.lineage), rows_of_share(cells.table, trial.share, trial.seed)
    data = data_of_rows(cells, rows)
    training = small_training(lineage.training, len(rows), utility.ddpm_images, data.num_classes, trial.seed)
    folder = workspace / "utility" / "ddpm"
    return cells_of_small_ddpm(data, lineage, training, sampling, like.classes, folder)


STEPS = (
    Step(
        measure_utility,
        (
            "comparison",
            "params:diffusion.sampling",
            "params:validation.classifier",
            "params:validation.comparison",
            "params:validation.utility",
            "workspace",
        ),
        "utility_metrics",
        tags="utility",
    ),
    Step(draw_utility, ("utility_metrics", "comparison"), "figure_utility", tags="utility"),
)
