"""Judge the synthetic cells: by a classifier, by distributions, descriptors and features, against floors."""

from kedro.pipeline import Pipeline

from malaria_diffusion.pipelines.validation import (
    classifier,
    compared,
    descriptors,
    distributions,
    explanations,
    fidelity,
    privacy,
    report,
    utility,
)


def create_pipeline() -> Pipeline:
    """validation: real and synthetic cells in; the classifier, tests, figures, summary and report out."""
    parts = [compared, classifier, distributions, descriptors, fidelity, privacy, utility, explanations, report]
    return Pipeline([part.create_pipeline() for part in parts], tags="validation")
