"""Which cells are compared."""

import logging

from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.errors import UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.questions.distributions.measure import check_foreground
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)

STUDIES = "utility"  # what can be run on its own needs these nodes as well


def plan_validation(cells: Cells, classifier: ClassifierParameters, comparison: ComparisonParameters) -> list[str]:
    """Find out, before anything is trained, whether what is asked for is possible; return the class names."""
    from malaria_diffusion.compute.device import resolve_device

    class_names = cells.class_names
    if len(class_names) < 2:
        raise UserError(
            f"all images are of the class {class_names[0]!r}, and the validation needs a classifier, which needs two: "
            "run `kedro run --pipelines data_processing,diffusion`"
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
    comparison = Comparison.choose(cells, synthetic_cells, parameters.n, parameters.seed)
    logger.info("comparing %d synthetic with %d unseen cells", len(comparison.synthetic), len(comparison.unseen))
    return comparison


def draw_synthetic_beside_real(comparison: Comparison) -> Figure:
    """Figure 2: synthetic cells beside unseen ones, by class."""
    unseen, cells = comparison.study.part("test"), comparison.generated
    return figures.beside(
        unseen.pixels, unseen.table["label"], cells.pixels, cells.table["label"], comparison.study.caption
    )


def plan_node(name: str, tags: str | None = None) -> Node:
    """The node of `plan_validation`, with which every pipeline that judges a classifier begins."""
    return Node(
        plan_validation,
        inputs=["cells", "params:validation.classifier", "params:validation.comparison"],
        outputs="class_names",
        name=name,
        tags=tags,
    )


def create_pipeline() -> Pipeline:
    """The cells to compare, and Figure 2."""
    return Pipeline(
        [
            plan_node("plan_validation", STUDIES),
            Node(
                choose_cells,
                inputs=["cells", "synthetic_cells", "params:validation.comparison"],
                outputs="comparison",
                name="choose_cells",
                tags=STUDIES,
            ),
            Node(
                draw_synthetic_beside_real,
                inputs="comparison",
                outputs="figure_2_synthetic",
                name="draw_synthetic_beside_real",
            ),
        ]
    )
