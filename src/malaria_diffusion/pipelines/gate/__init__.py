"""A gate for continuous integration: a model that breaks a rule ends the run with an exit code other than zero."""

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.pipelines.gate.nodes import judge_models, refuse_models
from malaria_diffusion.pipelines.steps import in_box


def create_pipeline() -> Pipeline:
    """gate: summaries of runs in; a table of rules out, and an error where one is broken."""
    return in_box(
        "gate",
        [
            Node(
                judge_models,
                inputs=["summary", "params:gate"],
                outputs=["gate_table", "figure_gate"],
                name="judge_models",
            ),
            Node(refuse_models, inputs="gate_table", outputs=None, name="refuse_models"),
        ],
        tags="gate",
    )
