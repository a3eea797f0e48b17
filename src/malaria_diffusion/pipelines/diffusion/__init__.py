"""Train a DDPM on the training people's cells and generate synthetic cells with it."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.diffusion.nodes import (
    draw_bound,
    draw_process,
    draw_sheet,
    draw_training,
    export_ddpm,
    measure_bound,
    plan_training,
    sample_cells,
    train_ddpm,
)


def create_pipeline() -> Pipeline:
    """diffusion: cells in; the model, its bound, synthetic cells, their lineage and Figures 1, 7 and 8 out.

    The tag `sample` generates from the stored model without training.
    """
    return Pipeline(
        [
            Node(
                plan_training,
                inputs=[
                    "cells",
                    "cell_table",
                    "dataset_summary",
                    "params:diffusion.process",
                    "params:diffusion.network",
                    "params:diffusion.training",
                    "params:diffusion.sampling",
                ],
                outputs="training_plan",
                name="plan_training",
            ),
            Node(
                train_ddpm,
                inputs=["cells", "cell_table", "training_plan", "params:diffusion.training", "workspace"],
                outputs=["ddpm_checkpoint", "training_history"],
                name="train_ddpm",
            ),
            Node(
                export_ddpm,
                inputs=["ddpm_checkpoint", "training_plan", "workspace"],
                outputs="ddpm",
                name="export_ddpm",
            ),
            Node(
                sample_cells,
                inputs=["ddpm", "params:diffusion.sampling"],
                outputs=["synthetic_cells", "synthetic_table", "synthetic_lineage"],
                name="sample_cells",
                tags="sample",
            ),
            Node(
                draw_sheet,
                inputs=["synthetic_cells", "synthetic_table", "synthetic_lineage"],
                outputs="synthetic_sheet",
                name="draw_sheet",
                tags="sample",
            ),
            Node(
                draw_process,
                inputs=["cells", "cell_table", "ddpm", "params:diffusion.sampling"],
                outputs="figure_1_process",
                name="draw_process",
            ),
            Node(
                draw_training,
                inputs=["training_history", "training_plan"],
                outputs="figure_7_training_loss",
                name="draw_training",
            ),
            Node(
                measure_bound,
                inputs=["cells", "cell_table", "ddpm", "params:diffusion.bound", "params:diffusion.sampling"],
                outputs="variational_bound",
                name="measure_bound",
            ),
            Node(
                draw_bound,
                inputs=["variational_bound", "dataset_summary"],
                outputs="figure_8_bound",
                name="draw_bound",
            ),
        ],
        tags="diffusion",
        namespace="diffusion",
        prefix_datasets_with_namespace=False,
    )
