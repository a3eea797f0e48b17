"""Judge the synthetic cells: by a classifier, by distributions, descriptors and features, against floors."""

from kedro.pipeline import Pipeline

from malaria_diffusion.pipelines.steps import in_box, nodes
from malaria_diffusion.pipelines.validation import report
from malaria_diffusion.questions import comparison, questions


def create_pipeline() -> Pipeline:
    """validation: real and synthetic cells in; the classifier, tests, figures, summary and report out."""
    parts = [in_box("comparison", nodes(comparison.STEPS))]
    parts += [in_box(question.folder.name, nodes(question.steps)) for question in questions()]
    return in_box("validation", [*parts, in_box("report", report.create_pipeline())], tags="validation")
