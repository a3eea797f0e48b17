"""Which cells are compared."""

import logging

from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.questions.distributions.measure import check_foreground
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.comparison import FEWEST_OF_A_CLASS, Comparison
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)

STUDIES = "utility"  # what can be run on its own needs these nodes as well


def plan_validation(cells: Cells, classifier: ClassifierParameters, comparison: ComparisonParameters) -> list[str]:
    """Find out, before anything is trained, whether what is asked for is possible; return the class names."""
    class_names = plan_classifier(cells, classifier, comparison)
    if comparison.n < (least := FEWEST_OF_A_CLASS * len(class_names)):
        raise UserError(
            f"validation.comparison.n is {comparison.n}, but there are {len(class_names)} classes, and at least "
            f"{FEWEST_OF_A_CLASS} cells of each are compared: give {least} or more"
        )
    more = "give more of it, or another data_processing.split.seed"
    _refuse_too_few(cells.part("test"), "test people's", class_names, more)
    _refuse_too_few(cells.part("train"), "training people's", class_names, more)
    return class_names


def plan_classifier(cells: Cells, classifier: ClassifierParameters, comparison: ComparisonParameters) -> list[str]:
    """The same of the classifier alone."""
    from malaria_diffusion.compute.device import resolve_device

    class_names = cells.class_names
    if len(class_names) < 2:
        raise UserError(
            f"all images are of the class {class_names[0]!r}, and the validation needs a classifier, which needs two; "
            "such images can be learned from and generated, no more",
            Remedy.GENERATION,
        )
    if comparison.positive_class is not None and comparison.positive_class not in class_names:
        raise UserError(
            f"validation.comparison.positive_class is {comparison.positive_class!r}, the classes are {class_names}; "
            "name one, or null if no class is the finding"
        )
    check_foreground(cells.pixels, cells.table["label"], cells.background, comparison.foreground_threshold)
    resolve_device(classifier.device)
    return class_names


def choose_cells(cells: Cells, synthetic_cells: Cells, parameters: ComparisonParameters) -> Comparison:
    """Choose the cells to compare."""
    more = "ask for more with diffusion.sampling.count"
    _refuse_too_few(synthetic_cells, "synthetic", cells.class_names, more, Remedy.SAMPLING)
    comparison = Comparison.choose(cells, synthetic_cells, parameters.n, parameters.seed)
    logger.info("comparing %d synthetic with %d unseen cells", len(comparison.synthetic), len(comparison.unseen))
    return comparison


def draw_synthetic_beside_real(comparison: Comparison) -> Figure:
    """Figure 2: synthetic cells beside unseen ones, by class."""
    unseen, cells = comparison.study.part("test"), comparison.generated
    return figures.beside(
        unseen.pixels, unseen.table["label"], cells.pixels, cells.table["label"], comparison.study.caption
    )


def _refuse_too_few(cells: Cells, whose: str, class_names: list[str], todo: str, remedy: Remedy | None = None) -> None:
    """Make sure that a side has enough cells of each class to be compared."""
    counts = cells.table["label"].value_counts().reindex(class_names, fill_value=0)
    if counts.min() < FEWEST_OF_A_CLASS:
        raise UserError(
            f"{counts.min()} {whose} cells of class {counts.idxmin()!r}, expected at least {FEWEST_OF_A_CLASS} to "
            f"compare: {todo}",
            remedy,
        )


PLANNED = ("cells", "params:validation.classifier", "params:validation.comparison")
STEPS = (
    Step(plan_validation, PLANNED, "class_names", tags=STUDIES),
    Step(choose_cells, ("cells", "synthetic_cells", "params:validation.comparison"), "comparison", tags=STUDIES),
    Step(draw_synthetic_beside_real, ("comparison",), "figure_2_synthetic"),
)
