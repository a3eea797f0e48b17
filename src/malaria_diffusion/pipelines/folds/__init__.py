"""How well the classifier does depends on who is split: by cell as the paper, by person, and five times by person."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.folds.nodes import (
    draw_errors,
    draw_mistakes,
    draw_people,
    draw_reliability,
    explain_errors,
    judge_protocols,
    list_disputed_labels,
    measure_people,
    measure_protocols,
)
from malaria_diffusion.pipelines.steps import in_box, nodes
from malaria_diffusion.questions.comparison import PLANNED, plan_classifier
from malaria_diffusion.questions.question import Step


def create_pipeline() -> Pipeline:
    """folds: cells in; the classifier by every protocol, its worst people, and labels to look at again out."""
    return in_box(
        "folds",
        [
            *nodes([Step(plan_classifier, PLANNED, "class_names")]),
            Node(
                judge_protocols,
                inputs=[
                    "cells",
                    "class_names",
                    "params:data_processing.split",
                    "params:validation.classifier",
                    "params:validation.comparison",
                    "params:validation.folds",
                    "workspace",
                ],
                outputs="protocol_predictions",
                name="judge_protocols",
            ),
            Node(
                measure_protocols,
                inputs=["protocol_predictions", "cells", "params:validation.comparison"],
                outputs="protocol_metrics",
                name="measure_protocols",
            ),
            Node(
                measure_people,
                inputs=["protocol_predictions", "params:validation.comparison"],
                outputs="accuracy_by_person",
                name="measure_people",
            ),
            Node(
                list_disputed_labels,
                inputs="protocol_predictions",
                outputs="disputed_labels",
                name="list_disputed_labels",
            ),
            Node(
                explain_errors,
                inputs=[
                    "cells",
                    "protocol_predictions",
                    "params:validation.comparison",
                ],
                outputs="errors_explained",
                name="explain_errors",
            ),
            Node(
                draw_errors,
                inputs=[
                    "protocol_predictions",
                    "disputed_labels",
                    "errors_explained",
                    "cells",
                    "params:validation.comparison",
                ],
                outputs="figure_folds_errors",
                name="draw_errors",
            ),
            Node(
                draw_reliability,
                inputs=["protocol_predictions", "protocol_metrics", "cells"],
                outputs="figure_folds_reliability",
                name="draw_reliability",
            ),
            Node(
                draw_people,
                inputs=["accuracy_by_person", "cells"],
                outputs="figure_folds_people",
                name="draw_people",
            ),
            Node(
                draw_mistakes,
                inputs=["cells", "protocol_predictions"],
                outputs="figure_folds_mistakes",
                name="draw_mistakes",
            ),
        ],
        tags="folds",
    )
