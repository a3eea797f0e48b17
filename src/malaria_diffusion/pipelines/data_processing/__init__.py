"""From raw images to one memory map and a table that says whose they are and what they are for."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.data_processing.nodes import draw_dataset, prepare_cells, summarise_dataset


def create_pipeline() -> Pipeline:
    """data_processing: raw_cells in; cells, cell_table, rejected_cells, dataset_summary and Figure 0 out."""
    return Pipeline(
        [
            Node(
                prepare_cells,
                inputs=["raw_cells", "workspace", "params:data_processing.packing", "params:data_processing.split"],
                outputs=["cells", "cell_table", "rejected_cells"],
                name="prepare_cells",
            ),
            Node(
                summarise_dataset,
                inputs=[
                    "raw_cells",
                    "cells",
                    "cell_table",
                    "rejected_cells",
                    "params:data_processing.packing",
                    "params:data_processing.split",
                ],
                outputs="dataset_summary",
                name="summarise_dataset",
            ),
            Node(
                draw_dataset,
                inputs=["cell_table", "dataset_summary"],
                outputs="figure_0_dataset",
                name="draw_dataset",
            ),
        ],
        tags="data_processing",
        namespace="data_processing",
        prefix_datasets_with_namespace=False,
    )
