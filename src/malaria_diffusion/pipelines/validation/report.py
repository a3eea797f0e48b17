"""Everything in one place: the summary and the report."""

from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from malaria_diffusion.evaluation.parameters import ClassifierParameters, ComparisonParameters
from malaria_diffusion.pipelines import tracking
from malaria_diffusion.report import render_report

FIGURES = [
    "figure_0_dataset",
    "figure_1_process",
    "figure_2_synthetic",
    "figure_3_classified",
    "figure_4_confusion",
    "figure_5_classifier_loss",
    "figure_6_distributions",
    "figure_7_training_loss",
]


def summarise_study(
    dataset_summary: dict[str, Any],
    synthetic_table: pd.DataFrame,
    synthetic_lineage: dict[str, Any],
    yolo_history: pd.DataFrame,
    classification_metrics: dict[str, Any],
    distribution_tests: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    classifier: ClassifierParameters,
    comparison: ComparisonParameters,
) -> dict[str, Any]:
    """Every headline number with what it rests on."""
    tests = {
        f"{row.variable}/{row.group}": row._asdict()
        for row in distribution_tests.drop(columns="bins").itertuples(index=False)
    }
    sampled = synthetic_table.iloc[0]
    summary = {
        "dataset": dataset_summary,
        "ddpm": {
            "identity": synthetic_lineage["identity"],
            "epochs": synthetic_lineage["epochs"],
            "images_seen": synthetic_lineage["images_seen"],
            "process": synthetic_lineage["process"],
            "training": synthetic_lineage["training"],
            "trained_on_current_cells": synthetic_lineage["cells_fingerprint"] == dataset_summary["fingerprint"],
            "sampling": {
                "solver": str(sampled["solver"]),
                "evaluations": int(sampled["evaluations"]),
                "seed": int(sampled["seed"]),
                "cells": len(synthetic_table),
            },
        },
        "classifier": {
            "initial_weights": classifier.weights or "from scratch",
            "parameters": classifier.model_dump(mode="json"),
            "best_val_accuracy": float(yolo_history["val_accuracy"].max()),
        },
        "n": {"real": len(compared_rows["real"]), "synthetic": len(compared_rows["synthetic"])},
        "confidence": comparison.confidence,
        "seed": comparison.seed,
        "classification": classification_metrics,
        "distribution_tests": tests,
        "code_version": tracking.code_version(),
    }
    tracking.log_metrics(summary)
    return summary


def write_report(
    summary: dict[str, Any], distribution_tests: pd.DataFrame, rejected_cells: pd.DataFrame, *figure_files: bytes
) -> str:
    """One HTML file with everything in it."""
    return render_report(summary, distribution_tests, rejected_cells, figure_files)


def create_pipeline() -> Pipeline:
    """All results in, summary and report out."""
    return Pipeline(
        [
            Node(
                summarise_study,
                inputs=[
                    "dataset_summary",
                    "synthetic_table",
                    "synthetic_lineage",
                    "yolo_history",
                    "classification_metrics",
                    "distribution_tests",
                    "compared_rows",
                    "params:validation.classifier",
                    "params:validation.comparison",
                ],
                outputs="summary",
                name="summarise_study",
            ),
            Node(
                write_report,
                inputs=["summary", "distribution_tests", "rejected_cells", *FIGURES],
                outputs="report",
                name="write_report",
            ),
        ]
    )
