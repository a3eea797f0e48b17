"""Few people: the diffusion model as a classifier and YOLOv8, both trained on the same few people's cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.config import ClassifierParameters, Recipe
from malaria_diffusion.classifier.metrics import classification_metrics, prediction_table
from malaria_diffusion.diffusion.lineage import Lineage
from malaria_diffusion.questions.utility.config import Arm
from malaria_diffusion.questions.utility.measure import cells_shown, run_trial
from malaria_diffusion.questions.utility.trials import Trial, rows_of_share, training_set
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.studies.generative.classifier import GenerativeClassifier, some_of_each
from malaria_diffusion.studies.generative.config import GenerativeParameters
from malaria_diffusion.studies.generative.panel import MODEL, YOLO


@dataclass(frozen=True)
class FewPeople:
    """Both classifiers trained on shares of the training people and judged on the same test cells.

    The diffusion model's rule is chosen by the validation people of the whole study, of whom YOLOv8 makes no use.

    Attributes:
        cells: Of the study.
        like: Of the DDPM of all people, whose process, network and training the small ones have.
        yolo: As of the validation's classifier, see `run_trial`.
        comparison: Positive class and confidence.
        parameters: Shares and lengths, and the cells to judge.
        folder: Where trainings are kept; what is trained already is not trained again.
        weights: Initial ones of YOLOv8; None: random.
    """

    cells: Cells
    like: Lineage
    yolo: ClassifierParameters
    comparison: ComparisonParameters
    parameters: GenerativeParameters
    folder: Path
    weights: Path | None

    def table(self) -> pd.DataFrame:
        """How well both do.

        Returns:
            One row a share, classifier and metric: share, people, training_cells, classifier, metric, value, low and
            high (over test people).
        """
        test = some_of_each(self.cells.part("test"), self.parameters.cells, self.parameters.seed)
        rows: list[dict[str, Any]] = []
        for share in self.parameters.low_data.shares:
            places = rows_of_share(self.cells.table, share, self.parameters.low_data.seed)
            trained_on = self.cells[places]
            facts = {"share": share, "people": len(set(trained_on.people)), "training_cells": len(trained_on)}
            judged = {MODEL: self._by_diffusion(trained_on, test), YOLO: self._by_yolo(share, trained_on, test)}
            for classifier, predictions in judged.items():
                found = classification_metrics(predictions, self.comparison.positive_class, self.comparison.confidence)
                rows += [facts | {"classifier": classifier, "metric": name} | each for name, each in found.items()]
        return pd.DataFrame(rows)

    def _by_diffusion(self, trained_on: Cells, test: Cells) -> pd.DataFrame:
        from malaria_diffusion.questions.utility.small_ddpm import data_of_rows, small_training, train_small_ddpm

        low_data = self.parameters.low_data
        data = data_of_rows(self.cells, trained_on.places)
        training = small_training(self.like.training, len(trained_on), low_data.images, data.num_classes, low_data.seed)
        denoiser = train_small_ddpm(data, self.like, training, self.folder / "ddpm")
        model = GenerativeClassifier.of_denoiser(denoiser, self.cells, self.parameters)
        probabilities = model.judge(test.pixels, test.places).probabilities
        return prediction_table(test, probabilities, self.cells.class_names, self.comparison.positive_class)

    def _by_yolo(self, share: float, trained_on: Cells, test: Cells) -> pd.DataFrame:
        low_data, val = self.parameters.low_data, self.cells.part("val")
        given = training_set(
            (trained_on.pixels, trained_on.classes),
            (self.cells.pixels[:0], self.cells.classes[:0]),
            (val.pixels, val.classes),
            cells_shown(low_data.steps, self.yolo),
            1.0,
            low_data.seed,
        )
        trial = Trial(Arm.REAL, share, low_data.seed, low_data.steps)
        recipe = Recipe(self.yolo, self.folder / "yolo", self.weights)
        probabilities = run_trial(trial, given, self.cells.class_names, test.pixels, recipe)
        return prediction_table(test, probabilities, self.cells.class_names, self.comparison.positive_class)
