"""Do people tell synthetic cells from real ones: a sheet for them, and what their answers say."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.reader_study.nodes import draw_readers, judge_readers, make_sheet
from malaria_diffusion.pipelines.steps import in_box


def create_pipeline() -> Pipeline:
    """reader_study: cells in, a sheet and its key out (tag make); answers in, scores out (tag score)."""
    return in_box(
        "reader_study",
        [
            Node(
                make_sheet,
                inputs=["cells", "synthetic_cells", "params:reader_study"],
                outputs=["reader_key", "reader_sheet"],
                name="make_sheet",
                tags="make",
            ),
            Node(
                judge_readers,
                inputs=["reader_key", "reader_answers"],
                outputs="reader_scores",
                name="judge_readers",
                tags="score",
            ),
            Node(
                draw_readers,
                inputs=["reader_key", "reader_scores"],
                outputs="figure_readers",
                name="draw_readers",
                tags="score",
            ),
        ],
        tags="reader_study",
    )
