"""How many diffusion steps: train with few and many, and measure what that does to quality, overfitting and cost."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.ablation.nodes import (
    draw_ablation,
    judge_ablation,
    measure_ablation,
    plan_ablation,
    train_ablation,
)
from malaria_diffusion.pipelines.steps import in_box


def create_pipeline() -> Pipeline:
    """ablation: cells in; a table of all trainings, the paper's claims judged by it, and Figure 9 out."""
    return in_box(
        "ablation",
        [
            Node(
                plan_ablation,
                inputs=[
                    "cells",
                    "params:diffusion.process",
                    "params:diffusion.network",
                    "params:diffusion.training",
                    "params:diffusion.sampling",
                    "params:ablation",
                ],
                outputs="ablation_plan",
                name="plan_ablation",
            ),
            Node(
                train_ablation,
                inputs=[
                    "cells",
                    "ablation_plan",
                    "params:diffusion.network",
                    "workspace",
                ],
                outputs="ablation_folders",
                name="train_ablation",
            ),
            Node(
                measure_ablation,
                inputs=[
                    "cells",
                    "ablation_plan",
                    "ablation_folders",
                    "params:diffusion.network",
                    "params:diffusion.sampling",
                    "params:ablation",
                    "workspace",
                ],
                outputs=["ablation_table", "ablation_samples"],
                name="measure_ablation",
            ),
            Node(
                judge_ablation,
                inputs=["ablation_table", "cells"],
                outputs="ablation_claims",
                name="judge_ablation",
            ),
            Node(
                draw_ablation,
                inputs=["ablation_table", "ablation_claims", "ablation_samples", "cells"],
                outputs="figure_9_ablation",
                name="draw_ablation",
            ),
        ],
        tags="ablation",
    )
