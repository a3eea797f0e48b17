"""Train a DDPM on the training people's cells and generate synthetic cells with it."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.diffusion.nodes import (
    draw_sheet,
    draw_training,
    sample_cells,
    write_images,
)
from malaria_diffusion.pipelines.steps import in_box, nodes
from malaria_diffusion.report.sections.diffusion.steps import STEPS
from malaria_diffusion.study.training import export_ddpm, plan_training, train_ddpm


def create_pipeline() -> Pipeline:
    """diffusion: cells in; the model, its bound, synthetic cells and Figures 1, 7 and 8 out.

    The tag `sample` generates from the stored model without training.
    """
    return in_box(
        "diffusion",
        [
            Node(
                plan_training,
                inputs=[
                    "cells",
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
                inputs=["cells", "training_plan", "params:diffusion.training", "workspace"],
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
                outputs="synthetic_cells",
                name="sample_cells",
                tags="sample",
            ),
            Node(
                draw_sheet,
                inputs="synthetic_cells",
                outputs="synthetic_sheet",
                name="draw_sheet",
                tags="sample",
            ),
            Node(
                write_images,
                inputs="synthetic_cells",
                outputs="synthetic_images",
                name="write_images",
                tags="sample",
            ),
            Node(
                draw_training,
                inputs=["training_history", "ddpm_checkpoint", "ddpm"],
                outputs="figure_7_training_loss",
                name="draw_training",
            ),
            *nodes(STEPS),
        ],
        tags="diffusion",
    )
