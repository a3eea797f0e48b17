"""What the classifier looks at, in real and in synthetic cells."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.phantom.draw import PhantomParameters
from malaria_diffusion.cells.phantom.masks import phantom_masks
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.predictor import load_predictor, random_classifier
from malaria_diffusion.questions.explanations.config import ExplanationParameters
from malaria_diffusion.questions.explanations.figure import explained_cells
from malaria_diffusion.questions.explanations.measure import ExplainedCells, Question, explain_some, results_table
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import MOST_CLASSES, Comparison
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)

DARK_SPOTS, DRAWN = "dark spots", "parasites as drawn"
RANDOM_NETWORKS = 4
TYPICAL_CELLS = 256


def explain_classifier(
    yolo_classifier: Path,
    comparison: Comparison,
    classifier: ClassifierParameters,
    parameters: ComparisonParameters,
    explanations: ExplanationParameters,
) -> dict[str, ExplainedCells]:
    """SHAP attributions of some compared cells by the trained classifier and, to check the method, by random ones.

    Explained is the positive class or, without one, each cell's own; of more than ten classes the first ten. It is the
    network's answer to a cell as it is, also where answers are otherwise the mean of eight views
    (`test_time_augmentation`): all eight would take eight times as long.
    """
    study, rng = comparison.study, np.random.default_rng(parameters.seed)
    trained = load_predictor(yolo_classifier, device=classifier.device, test_time_augmentation=False)
    members = study.part("train")
    typical = members[np.sort(rng.permutation(len(members))[:TYPICAL_CELLS])].pixels
    random = [
        random_classifier(yolo_classifier, typical, seed, device=classifier.device) for seed in range(RANDOM_NETWORKS)
    ]
    question = Question(
        study.background,
        parameters.foreground_threshold,
        parameters.positive_class,
        explanations.cells,
        explanations.evaluations,
        parameters.seed,
    )
    shown = study.class_names[:MOST_CLASSES]
    return {
        side: explain_some(cells[np.isin(cells.labels, shown)], trained, random, question, rng)
        for side, cells in (("real", comparison.unseen), ("synthetic", comparison.synthetic))
    }


def measure_explanations(
    explained: dict[str, ExplainedCells],
    comparison: Comparison,
    packing: PackingParameters,
    phantom: PhantomParameters,
    parameters: ComparisonParameters,
) -> pd.DataFrame:
    """`results_table` for the dark spots and, where the cells are phantom cells whose parasites are known, for these.

    The column mask says for which.
    """
    bootstrap = Bootstrap.of(parameters)
    tables = [results_table(explained, bootstrap).assign(mask=DARK_SPOTS)]
    if comparison.study.phantom:
        real = explained["real"]
        names = comparison.study.table["name"].iloc[real.rows].tolist()
        drawn = phantom_masks(real.cells, names, phantom, packing)
        if drawn is None:
            logger.warning("these are not the phantom cells that `phantom` draws: their parasites are not known")
        else:
            known = {"real": real._replace(masks=drawn)}
            tables.append(results_table(known, bootstrap).assign(mask=DRAWN))
    return pd.concat(tables, ignore_index=True)


def draw_explanations(
    explanations: pd.DataFrame,
    explained: dict[str, ExplainedCells],
    comparison: Comparison,
    parameters: ComparisonParameters,
) -> Figure:
    """Cells beside what speaks for the positive class, or for their own, in them."""
    by_spots = explanations[explanations["mask"] == DARK_SPOTS]
    return explained_cells(explained, by_spots, parameters.positive_class, comparison.study.caption, DARK_SPOTS)


STEPS = (
    Step(
        explain_classifier,
        (
            "yolo_classifier",
            "comparison",
            "params:validation.classifier",
            "params:validation.comparison",
            "params:validation.explanations",
        ),
        "explained",
    ),
    Step(
        measure_explanations,
        ("explained", "comparison", "params:data_processing.packing", "params:phantom", "params:validation.comparison"),
        "explanations",
    ),
    Step(
        draw_explanations,
        ("explanations", "explained", "comparison", "params:validation.comparison"),
        "figure_explanations",
    ),
)
