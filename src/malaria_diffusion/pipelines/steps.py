"""Steps of a question as nodes of the graph."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.questions.question import Step


def nodes(steps: Iterable[Step]) -> list[Node]:
    """One node a step, of its name."""
    return [
        Node(
            step.run,
            inputs=list(step.takes),
            outputs=step.makes if isinstance(step.makes, str) else list(step.makes),
            name=step.name,
            tags=step.tags,
        )
        for step in steps
    ]


def in_box(name: str, parts: Iterable[Node | Pipeline] | Pipeline, tags: str | None = None) -> Pipeline:
    """Nodes and pipelines in one box of the graph."""
    return Pipeline(parts, tags=tags, namespace=name, prefix_datasets_with_namespace=False)
