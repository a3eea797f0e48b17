"""Everything in one place: the summary and the report."""

from typing import Any

from kedro.pipeline import Node, Pipeline

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.observer import observer
from malaria_diffusion.questions.results import Results
from malaria_diffusion.report import evaluated_card, figure_names, render_report, result_names, summary_of
from malaria_diffusion.statistics.config import ComparisonParameters


def summarise_study(
    cells: Cells,
    synthetic_cells: Cells,
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    **found: Any,
) -> dict[str, Any]:
    """Every headline number with what it rests on."""
    results = Results(cells.about, comparison.positive_class, comparison.confidence, found)
    summary = summary_of(results, synthetic_cells, classifier, comparison)
    observer().log_metrics({"headlines": summary["headlines"]})
    return summary


def write_report(summary: dict[str, Any] | None, cells: Cells, reference_sheet: bytes | None, **given: Any) -> str:
    """One HTML file with everything in it."""
    summary = _there(summary)
    found = {name: given[name] for name in result_names()}
    results = Results(cells.about, summary["positive_class"], summary["confidence"], found)
    figures = {name: given[name] for name in figure_names() if given[name] is not None}
    return render_report(summary, results, figures, reference_sheet)


def write_model_card(ddpm: DiffusionModel, summary: dict[str, Any] | None) -> str:
    """The model's card with what was measured here; the folder of the model stays as it was finished."""
    return evaluated_card(ddpm.lineage, ddpm.weights, _there(summary))


def create_pipeline() -> Pipeline:
    """All results in, summary, report and the model's card out."""
    results = {name: name for name in ("cells", *result_names())}
    parameters = {"classifier": "params:validation.classifier", "comparison": "params:validation.comparison"}
    figures = {name: name for name in figure_names()}
    return Pipeline(
        [
            Node(
                summarise_study,
                inputs=results | {"synthetic_cells": "synthetic_cells"} | parameters,
                outputs="summary",
                name="summarise_study",
            ),
            Node(
                write_report,
                inputs=results | figures | {name: name for name in ("summary", "reference_sheet")},
                outputs="report",
                name="write_report",
            ),
            Node(
                write_model_card,
                inputs=["ddpm", "summary"],
                outputs="model_card",
                name="write_model_card",
            ),
        ]
    )


def _there(summary: dict[str, Any] | None) -> dict[str, Any]:
    """It may be missing where summaries of other runs are judged."""
    if summary is None:
        raise UserError("summary is not there yet; validate first", Remedy.VALIDATION)
    return summary
