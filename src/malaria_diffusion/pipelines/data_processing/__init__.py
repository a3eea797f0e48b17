"""From raw images to one memory map and a table that says whose they are and what they are for."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.data_processing.nodes import prepare_cells
from malaria_diffusion.pipelines.steps import in_box, nodes
from malaria_diffusion.report.sections.cells.steps import STEPS


def create_pipeline() -> Pipeline:
    """data_processing: raw_cells in; cells, rejected_cells and Figure 0 out."""
    return in_box(
        "data_processing",
        [
            Node(
                prepare_cells,
                inputs=["raw_cells", "workspace", "params:data_processing.packing", "params:data_processing.split"],
                outputs=["cells", "rejected_cells"],
                name="prepare_cells",
            ),
            *nodes(STEPS),
        ],
        tags="data_processing",
    )
