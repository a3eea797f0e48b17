"""Everything in one place: the summary and the report."""

from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.report import FIGURES, Results, fit_of, headlines, render_report
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.tracking import log as tracking

RESULTS = tuple(name for name in Results._fields if name != "dataset_summary")


def summarise_study(
    cells: Cells,
    synthetic_cells: Cells,
    yolo_history: pd.DataFrame,
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
    **results: Any,
) -> dict[str, Any]:
    """Every headline number with what it rests on; `results` are the fields of `Results`."""
    given, lineage = Results(cells.about, **results), synthetic_cells.lineage or {}
    tests = {
        f"{row['variable']}/{row['group']}": row
        for row in given.distribution_tests.drop(columns="bins").to_dict("records")
    }
    sampled = synthetic_cells.table.iloc[0]
    compared = int(given.fidelity_metrics["n"].max())  # as many of each
    of_epoch = yolo_history["val_accuracy"]
    summary = {
        "dataset": given.dataset_summary,
        "ddpm": {
            "identity": lineage["identity"],
            "epochs": lineage["epochs"],
            "images_seen": lineage["images_seen"],
            "process": lineage["process"],
            "network": lineage["network"],
            "training": lineage["training"],
            "sampling": {
                "solver": str(sampled["solver"]),
                "evaluations": int(sampled["evaluations"]),
                "seed": int(sampled["seed"]),
                "cells": len(synthetic_cells),
            },
        },
        "classifier": {
            "initial_weights": classifier.weights or "from scratch",
            "parameters": classifier.model_dump(mode="json"),
            "fit": fit_of(yolo_history),
            "kept_val_accuracy": float({"best": of_epoch.max(), "last": of_epoch.iloc[-1]}[classifier.kept_epoch]),
        },
        "n": {"real": compared, "synthetic": compared},
        "positive_class": comparison.positive_class,
        "confidence": comparison.confidence,
        "seed": comparison.seed,
        "headlines": headlines(given, comparison.positive_class),
        "classification": given.classification_metrics,
        "distribution_tests": tests,
        "code_version": tracking.code_version(),
    }
    tracking.log_metrics({"headlines": summary["headlines"]})
    return summary


def write_report(summary: dict[str, Any], cells: Cells, **given: Any) -> str:
    """One HTML file with everything in it; `given` are the fields of `Results`, and the figures."""
    results = Results(cells.about, **{name: given[name] for name in RESULTS})
    return render_report(summary, results, {name: given[name] for name in FIGURES})


def create_pipeline() -> Pipeline:
    """All results in, summary and report out."""
    results = {name: name for name in RESULTS}
    parts = ("cells", "synthetic_cells", "yolo_history")
    return Pipeline(
        [
            Node(
                summarise_study,
                inputs=results
                | {name: name for name in parts}
                | {"classifier": "params:validation.classifier", "comparison": "params:validation.comparison"},
                outputs="summary",
                name="summarise_study",
            ),
            Node(
                write_report,
                inputs=results | {name: name for name in ("cells", "summary", *FIGURES)},
                outputs="report",
                name="write_report",
            ),
        ]
    )
