"""The attack on membership with shadow models: what a likelihood ratio adds to the validation's threshold."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.shadow_models.nodes import (
    attack_models,
    draw_attack,
    halve_cells,
    train_shadows,
)
from malaria_diffusion.pipelines.steps import in_box


def create_pipeline() -> Pipeline:
    """shadow_models: the stored DDPM and the cells in; how well members are told apart by shadow models out."""
    return in_box(
        "shadow_models",
        [
            Node(
                halve_cells,
                inputs=["cells", "params:shadow_models"],
                outputs="shadow_design",
                name="halve_cells",
            ),
            Node(
                train_shadows,
                inputs=[
                    "ddpm",
                    "cells",
                    "shadow_design",
                    "params:diffusion.sampling",
                    "params:shadow_models",
                    "workspace",
                ],
                outputs=["shadow_targets", "shadow_facts"],
                name="train_shadows",
            ),
            Node(
                attack_models,
                inputs=["shadow_targets", "shadow_design", "shadow_facts", "params:validation.comparison"],
                outputs=["shadow_attack", "shadow_metrics", "shadow_summary"],
                name="attack_models",
            ),
            Node(
                draw_attack,
                inputs=["shadow_attack", "cells"],
                outputs="figure_shadow_models",
                name="draw_attack",
            ),
        ],
        tags="shadow_models",
    )
