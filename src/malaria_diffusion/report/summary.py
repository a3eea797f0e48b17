"""The study in one place, for machines."""

from __future__ import annotations

from typing import Any

import pandas as pd

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.lineage import refuse_other_bound
from malaria_diffusion.cells.summary import cells_by_class
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.questions.classification.question import fit_of
from malaria_diffusion.questions.results import Results
from malaria_diffusion.report.contents import headlines
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.version import code_version


def summary_of(
    results: Results, synthetic: Cells, classifier: ClassifierParameters, comparison: ComparisonParameters
) -> dict[str, Any]:
    """Every headline number with what it rests on, and what makes it again.

    Args:
        results: Of the validation.
        synthetic: All synthetic cells.
        classifier: How it was trained.
        comparison: How results were compared.

    Raises:
        LineageError: the bound is of another model, or of another epoch of it.
    """
    lineage, sampled = synthetic.lineage or {}, synthetic.table.iloc[0]
    refuse_other_bound(results["variational_bound"], lineage)
    tests: pd.DataFrame = results["distribution_tests"].drop(columns="bins")
    compared = int(results["fidelity_metrics"]["n"].max())  # as many of each
    history: pd.DataFrame = results["yolo_history"]
    of_epoch = history["val_accuracy"]
    return {
        "dataset": results.dataset,
        "ddpm": {
            "identity": lineage["identity"],
            "epochs": lineage["epochs"],
            "best_epoch": lineage["best_epoch"],
            "images_seen": lineage["images_seen"],
            "process": lineage["process"],
            "network": lineage["network"],
            "training": lineage["training"],
            "sampling": {
                "solver": str(sampled["solver"]),
                "evaluations": int(sampled["evaluations"]),
                "guidance": float(sampled["guidance"]),
                "variance": str(sampled["variance"]),
                "clipping": str(sampled["clipping"]),
                "seed": int(sampled["seed"]),
                "cells": len(synthetic),
                "cells_by_class": cells_by_class(synthetic.table),
            },
        },
        "classifier": {
            "initial_weights": classifier.weights or "from scratch",
            "parameters": classifier.model_dump(mode="json"),
            "fit": fit_of(history),
            "kept_val_accuracy": float({"best": of_epoch.max(), "last": of_epoch.iloc[-1]}[classifier.kept_epoch]),
        },
        "n": {"real": compared, "synthetic": compared},
        "positive_class": comparison.positive_class,
        "confidence": comparison.confidence,
        "seed": comparison.seed,
        "headlines": headlines(results),
        "classification": results["classification_metrics"],
        "distribution_tests": {f"{row['variable']}/{row['group']}": row for row in tests.to_dict("records")},
        "code_version": code_version(),
    }
