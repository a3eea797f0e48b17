"""The classifier is judged by the split that the cells have."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.cells.lineage import LineageError
from malaria_diffusion.cells.split import SplitParameters, assign_splits
from malaria_diffusion.classifier.config import ClassifierParameters, FoldParameters
from malaria_diffusion.pipelines.folds.nodes import judge_protocols
from malaria_diffusion.statistics.config import ComparisonParameters

from ..toys import toy


def test_parameters_of_another_split_are_refused_before_any_training(tmp_path, monkeypatch):
    class TrainingError(Exception):
        pass

    def start_training(*arguments):
        raise TrainingError

    monkeypatch.setitem(judge_protocols.__globals__, "judge", start_training)
    names = [f"C{person}P{person}_{label}_{k}.png" for person in range(40) for label in "AB" for k in range(2)]
    table = pd.DataFrame({"name": names, "label": [name.split("_")[1] for name in names], "path": names})
    cells = toy(
        np.zeros((len(names), 3, 2, 2), np.uint8), assign_splits(table, SplitParameters()), split_strategy="person"
    )

    def judge(split):
        classifier = ClassifierParameters(weights=None)
        judge_protocols(
            cells, ["A", "B"], split, classifier, ComparisonParameters(), FoldParameters(number=2, seed=0), tmp_path
        )

    with pytest.raises(TrainingError):
        judge(SplitParameters())
    with pytest.raises(LineageError, match=r"data_processing\.split puts"):
        judge(SplitParameters(seed=8))
