"""Judge the synthetic cells: by a classifier, by their distributions, against floors."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.validation import utility
from malaria_diffusion.pipelines.validation.nodes import (
    choose_compared,
    compare_distributions,
    draw_classified,
    draw_confusion,
    draw_curves,
    draw_distributions,
    draw_synthetic_beside_real,
    measure_classifier,
    plan_validation,
    predict_cells,
    summarise_study,
    train_yolo,
    write_report,
)

FIGURES = [
    "figure_0_dataset",
    "figure_1_process",
    "figure_2_synthetic",
    "figure_3_classified",
    "figure_4_confusion",
    "figure_5_classifier_loss",
    "figure_6_distributions",
    "figure_7_training_loss",
]


def create_pipeline() -> Pipeline:
    """validation: real and synthetic cells in; the classifier, tests, Figures 2 to 6, summary and report out."""
    return Pipeline(
        [
            Node(
                plan_validation,
                inputs=["cell_table", "params:validation.classifier", "params:validation.comparison"],
                outputs="class_names",
                name="plan_validation",
            ),
            Node(
                choose_compared,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "synthetic_lineage",
                    "dataset_summary",
                    "params:validation.comparison",
                ],
                outputs="compared_rows",
                name="choose_compared",
            ),
            # compared_rows is an input, here and for Figure 2, so that nothing is made for a comparison that is refused
            Node(
                train_yolo,
                inputs=[
                    "cells",
                    "cell_table",
                    "params:validation.classifier",
                    "workspace",
                    "class_names",
                    "compared_rows",
                ],
                outputs=["yolo_classifier", "yolo_history"],
                name="train_yolo",
            ),
            Node(
                predict_cells,
                inputs=[
                    "yolo_classifier",
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "class_names",
                    "compared_rows",
                    "params:validation.classifier",
                    "params:validation.comparison",
                ],
                outputs="predictions",
                name="predict_cells",
            ),
            Node(
                measure_classifier,
                inputs=["predictions", "params:validation.comparison"],
                outputs=["classification_metrics", "confusion_counts"],
                name="measure_classifier",
            ),
            Node(
                compare_distributions,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "predictions",
                    "compared_rows",
                    "dataset_summary",
                    "params:validation.comparison",
                ],
                outputs=["distribution_tests", "compared_histograms"],
                name="compare_distributions",
            ),
            Node(
                draw_synthetic_beside_real,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "compared_rows",
                    "dataset_summary",
                ],
                outputs="figure_2_synthetic",
                name="draw_synthetic_beside_real",
            ),
            Node(
                draw_classified,
                inputs=["cells", "predictions", "dataset_summary"],
                outputs="figure_3_classified",
                name="draw_classified",
            ),
            Node(
                draw_confusion,
                inputs=["confusion_counts", "classification_metrics", "dataset_summary"],
                outputs="figure_4_confusion",
                name="draw_confusion",
            ),
            Node(
                draw_curves,
                inputs=["yolo_history", "dataset_summary"],
                outputs="figure_5_classifier_loss",
                name="draw_curves",
            ),
            Node(
                draw_distributions,
                inputs=["compared_histograms", "distribution_tests", "compared_rows", "dataset_summary"],
                outputs="figure_6_distributions",
                name="draw_distributions",
            ),
            Node(
                summarise_study,
                inputs=[
                    "dataset_summary",
                    "synthetic_table",
                    "synthetic_lineage",
                    "yolo_history",
                    "classification_metrics",
                    "distribution_tests",
                    "compared_rows",
                    "params:validation.classifier",
                    "params:validation.comparison",
                ],
                outputs="summary",
                name="summarise_study",
            ),
            Node(
                write_report,
                inputs=["summary", "distribution_tests", "rejected_cells", *FIGURES],
                outputs="report",
                name="write_report",
            ),
            utility.create_pipeline(),
        ],
        tags="validation",
    )
