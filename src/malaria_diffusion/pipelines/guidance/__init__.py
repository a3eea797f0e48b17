"""How strongly to guide a DDPM towards the class, chosen by validation people's cells."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.guidance.nodes import compare_guidance_scales
from malaria_diffusion.pipelines.steps import in_box


def create_pipeline() -> Pipeline:
    """guidance: the stored DDPM and the cells in; distance and recall at each scale out."""
    return in_box(
        "guidance",
        [
            Node(
                compare_guidance_scales,
                inputs=[
                    "ddpm",
                    "cells",
                    "params:diffusion.sampling",
                    "params:guidance",
                ],
                outputs="guidance_scales",
                name="compare_guidance_scales",
            )
        ],
        tags="guidance",
    )
