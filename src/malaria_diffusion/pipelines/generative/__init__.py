"""The diffusion model as a classifier: beside YOLOv8, on anomalies, on other stains, and why."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.generative.nodes import (
    draw_anomalies,
    draw_judges,
    draw_maps,
    draw_shift,
    fit_classifier,
    fit_panel,
    judge_cells,
    measure_anomalies,
    measure_judges,
    measure_low_data,
    measure_shift,
)
from malaria_diffusion.pipelines.steps import in_box

SETTINGS = "params:generative"
COMPARISON = "params:validation.comparison"


def create_pipeline() -> Pipeline:
    """generative: the stored DDPM, YOLOv8 and the cells in; what each says, of usual and unusual cells, out."""
    return in_box(
        "generative",
        [
            Node(
                fit_classifier,
                inputs=["ddpm", "cells", COMPARISON, SETTINGS],
                outputs="generative_classifier",
                name="fit_classifier",
            ),
            Node(
                fit_panel,
                inputs=["generative_classifier", "yolo_classifier", SETTINGS],
                outputs="generative_panel",
                name="fit_panel",
            ),
            Node(
                judge_cells,
                inputs=["generative_panel", "cells", COMPARISON, SETTINGS],
                outputs=["generative_predictions", "generative_cost"],
                name="judge_cells",
            ),
            Node(
                measure_judges,
                inputs=["generative_predictions", COMPARISON, "generative_cost"],
                outputs=["generative_metrics", "generative_summary"],
                name="measure_judges",
            ),
            Node(
                draw_judges,
                inputs=["generative_metrics", "generative_predictions", "generative_summary", "cells"],
                outputs="figure_generative",
                name="draw_judges",
            ),
            Node(
                draw_maps,
                inputs=["generative_classifier", "cells", COMPARISON, SETTINGS],
                outputs="figure_generative_maps",
                name="draw_maps",
            ),
            Node(
                measure_anomalies,
                inputs=["generative_classifier", "cells", COMPARISON, SETTINGS],
                outputs="generative_anomalies",
                name="measure_anomalies",
            ),
            Node(
                draw_anomalies,
                inputs=["generative_anomalies", "cells", COMPARISON, SETTINGS],
                outputs="figure_generative_anomalies",
                name="draw_anomalies",
            ),
            Node(
                measure_shift,
                inputs=["generative_panel", "cells", COMPARISON, SETTINGS],
                outputs="generative_shift",
                name="measure_shift",
            ),
            Node(
                draw_shift,
                inputs=["generative_shift", "cells"],
                outputs="figure_generative_shift",
                name="draw_shift",
            ),
        ],
        tags="generative",
    )


def create_low_data_pipeline() -> Pipeline:
    """generative_low_data: the cells and the settings of the DDPM in; both classifiers trained on few people out."""
    return in_box(
        "generative_low_data",
        [
            Node(
                measure_low_data,
                inputs=["ddpm", "cells", "params:validation.classifier", COMPARISON, SETTINGS, "workspace"],
                outputs="generative_low_data",
                name="measure_low_data",
            )
        ],
        tags="generative_low_data",
    )
