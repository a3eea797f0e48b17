"""Judge the synthetic cells: by a classifier, by their distributions, against floors, by unseen people."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.validation.nodes import (
    compare_distributions,
    draw_classified,
    draw_confusion,
    draw_curves,
    draw_distributions,
    measure_classifier,
    predict_cells,
    refuse_leaking_model,
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
    """validation: real and synthetic cells in; the classifier, tests, Figures 3 to 6, summary and report out."""
    return Pipeline(
        [
            Node(
                refuse_leaking_model,
                inputs=[
                    "synthetic_table",
                    "synthetic_lineage",
                    "cell_table",
                    "params:data_processing.split",
                    "params:validation.comparison",
                ],
                outputs="compared_rows",
                name="refuse_leaking_model",
            ),
            # compared_rows is an input only so that nothing is trained for a comparison that must be refused
            Node(
                train_yolo,
                inputs=["cells", "cell_table", "params:validation.classifier", "workspace", "compared_rows"],
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
                    "compared_rows",
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
                    "params:validation.comparison",
                    "params:data_processing.packing",
                ],
                outputs=["distribution_tests", "compared_histograms"],
                name="compare_distributions",
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
        ],
        tags="validation",
    )
