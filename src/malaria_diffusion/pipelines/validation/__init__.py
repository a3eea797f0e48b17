"""Judge the synthetic cells: by a classifier, by distributions, descriptors and features, against floors."""

from kedro.pipeline import Pipeline

from malaria_diffusion.pipelines.validation import (
    classifier,
    compared,
    constraint,
    descriptors,
    distributions,
    explanations,
    fidelity,
    privacy,
    report,
    utility,
)

PARTS = {
    "comparison": compared,
    "classifier": classifier,
    "distributions": distributions,
    "descriptors": descriptors,
    "constraint": constraint,
    "fidelity": fidelity,
    "privacy": privacy,
    "utility": utility,
    "explanations": explanations,
    "report": report,
}


def create_pipeline() -> Pipeline:
    """validation: real and synthetic cells in; the classifier, tests, figures, summary and report out."""
    parts = [
        Pipeline(part.create_pipeline(), namespace=name, prefix_datasets_with_namespace=False)
        for name, part in PARTS.items()
    ]
    return Pipeline(parts, tags="validation", namespace="validation", prefix_datasets_with_namespace=False)
