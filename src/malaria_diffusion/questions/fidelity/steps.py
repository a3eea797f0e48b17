"""Are synthetic cells like real ones, and as varied: distances and neighbourhoods in a feature space, beside floors."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.features import reported_space
from malaria_diffusion.classifier.trainer import resolve_weights
from malaria_diffusion.observer import observer
from malaria_diffusion.questions.fidelity.config import FidelityParameters
from malaria_diffusion.questions.fidelity.figure import fidelity as draw
from malaria_diffusion.questions.fidelity.inception import COLUMNS, SKIPPED, embed, inception, inception_table
from malaria_diffusion.questions.fidelity.measure import ProjectedSpace, Projection, fidelity_table
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)

FIT_CELLS = 4000


def fit_feature_space(
    comparison: Comparison,
    classifier: ClassifierParameters,
    parameters: ComparisonParameters,
    workspace: Path,
) -> ProjectedSpace:
    """The space that fidelity and novelty are judged in, fitted on training people's cells that are not the floor's."""
    network = reported_space(resolve_weights(classifier.weights, workspace), classifier)
    logger.info("feature space: %s", network.name)
    study = comparison.study
    others = np.setdiff1d(np.flatnonzero(training_rows(study.table)), comparison.others.places)
    fit = study[np.sort(np.random.default_rng(parameters.seed).permutation(others)[:FIT_CELLS])]
    per_class = len(comparison.unseen) // len(study.class_names)
    projection = Projection(network.embed(fit.pixels, classifier.device), per_class)
    return ProjectedSpace(network, projection, classifier.device)


def measure_fidelity(
    comparison: Comparison, feature_space: ProjectedSpace, parameters: ComparisonParameters
) -> pd.DataFrame:
    """Distances, precision, recall, density and coverage, overall and by class."""
    features = {side: feature_space(cells.pixels) for side, cells in comparison.sides.items()}
    table = fidelity_table(features, comparison.tables, Bootstrap.of(parameters))
    for row in table.to_dict("records"):
        observer().log_metrics({"fidelity": {f"{row['metric']} of {row['group']}": row["value"]}})
    return table.assign(space=feature_space.network.name, dimensions=feature_space.projection.dimensions)


def measure_inception(
    comparison: Comparison,
    classifier: ClassifierParameters,
    fidelity: FidelityParameters,
    parameters: ComparisonParameters,
) -> pd.DataFrame:
    """FID and KID, overall and by class; no rows without the weights of their network."""
    if fidelity.inception_weights is None:
        logger.info(SKIPPED)
        return pd.DataFrame(columns=[*COLUMNS])
    network = inception(Path(fidelity.inception_weights))
    features = {side: embed(network, cells.pixels, classifier.device) for side, cells in comparison.sides.items()}
    table = inception_table(features, comparison.tables, Bootstrap.of(parameters))
    for row in table.to_dict("records"):
        observer().log_metrics({"fidelity": {f"{row['metric']} of {row['group']}": row["value"]}})
    return table


def draw_fidelity(fidelity_metrics: pd.DataFrame, comparison: Comparison) -> Figure:
    """Every measure beside its floor."""
    return draw(fidelity_metrics, fidelity_metrics["space"].iloc[0], comparison.study.kind)


STEPS = (
    Step(
        fit_feature_space,
        ("comparison", "params:validation.classifier", "params:validation.comparison", "workspace"),
        "feature_space",
    ),
    Step(measure_fidelity, ("comparison", "feature_space", "params:validation.comparison"), "fidelity_metrics"),
    Step(
        measure_inception,
        (
            "comparison",
            "params:validation.classifier",
            "params:validation.fidelity",
            "params:validation.comparison",
        ),
        "inception_metrics",
    ),
    Step(draw_fidelity, ("fidelity_metrics", "comparison"), "figure_fidelity"),
)
