"""Draw the phantom cells that the embedded default studies."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.phantom.nodes import draw_phantom_cells
from malaria_diffusion.pipelines.steps import in_box


def create_pipeline() -> Pipeline:
    """phantom: parameters in, an archive in NLM's layout out."""
    return in_box(
        "phantom",
        [
            Node(
                draw_phantom_cells,
                inputs=["params:phantom", "workspace"],
                outputs="phantom_cells",
                name="draw_phantom_cells",
            )
        ],
    )
