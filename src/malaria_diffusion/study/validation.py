"""All questions of the validation, and their report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.lineage import refuse_other_cells, refuse_other_weights
from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.phantom.draw import PhantomParameters
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.config import Parameters
from malaria_diffusion.diffusion.config import BoundParameters, SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.files import whole
from malaria_diffusion.questions import comparison, questions
from malaria_diffusion.questions.explanations.config import ExplanationParameters
from malaria_diffusion.questions.fidelity.config import FidelityParameters
from malaria_diffusion.questions.fidelity.inception import inception
from malaria_diffusion.questions.question import Step
from malaria_diffusion.questions.results import Results
from malaria_diffusion.questions.utility.config import UtilityParameters
from malaria_diffusion.report import render_report, summary_of
from malaria_diffusion.report.sections import SECTIONS
from malaria_diffusion.statistics.config import ComparisonParameters


class ValidationParameters(Parameters):
    """What is asked, and how.

    Attributes:
        classifier: How the classifier is trained.
        comparison: How results are measured and compared.
        sampling: How the diffusion model is asked again, where a question needs it; give what the synthetic cells were
            generated with.
        bound: How its variational bound is estimated.
        explanations: What explains the classifier's answers.
        fidelity: In which public space synthetic cells are compared too.
        utility: The study of what synthetic cells are worth to a classifier, dozens of trainings; None: not asked.
        packing: How the cells were packed, as of phantom cells their parasites are packed again.
        phantom: Which phantom cells they are, if they are.
    """

    classifier: ClassifierParameters = ClassifierParameters()
    comparison: ComparisonParameters = ComparisonParameters()
    sampling: SamplingParameters = SamplingParameters()
    bound: BoundParameters = BoundParameters()
    explanations: ExplanationParameters = ExplanationParameters()
    fidelity: FidelityParameters = FidelityParameters()
    utility: UtilityParameters | None = None
    packing: PackingParameters = PackingParameters()
    phantom: PhantomParameters = PhantomParameters()


@dataclass(frozen=True)
class Validation:
    """All answers.

    Attributes:
        results: Tables and numbers by name, as they are in the catalog of a Kedro run: `results["fidelity_metrics"]`.
        figures: By name.
        summary: Every headline with its interval, its floor and what it rests on, and what makes it again.
    """

    results: Results
    figures: dict[str, Figure]
    summary: dict[str, Any]

    def report(self, path: str | Path) -> Path:
        """Write one HTML file with everything in it, whole or not at all."""
        path = Path(path)
        page = render_report(self.summary, self.results, {name: _png(found) for name, found in self.figures.items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as beside:
            beside.write_text(page, encoding="utf-8")
        return path


def validate(
    model: DiffusionModel,
    synthetic: Cells,
    cells: Cells,
    folder: str | Path,
    parameters: ValidationParameters | None = None,
) -> Validation:
    """Judge synthetic cells by all questions, each beside its floor, on people whom the model has never seen.

    Args:
        model: What generated the cells.
        synthetic: Of `model.generate`, all classes.
        cells: Those that it trained on and those kept from it, see `pack`.
        folder: Where the classifier is trained, and what takes long is kept: asked again, it is not done again.
        parameters: What is asked, and how; None: as `ValidationParameters` has it.

    Raises:
        UserError: cells, model and synthetic cells that do not belong together, too few of a class, or weights that are
            not there.
    """
    asked = parameters or ValidationParameters()
    lineage = model.lineage.model_dump(mode="json")
    refuse_other_cells(lineage, cells.fingerprint, cells.table)
    refuse_other_weights(lineage, synthetic.lineage or {})
    if asked.fidelity.inception_weights is not None:
        inception(Path(asked.fidelity.inception_weights))  # before anything is trained
    data: dict[str, Any] = {
        "cells": cells,
        "synthetic_cells": synthetic,
        "ddpm": model,
        "workspace": Path(folder),
        "rejected_cells": pd.DataFrame(columns=["path", "reason"]),
        "protocol_metrics": None,
        "ablation_claims": None,
        "params:diffusion.sampling": asked.sampling,
        "params:diffusion.bound": asked.bound,
        "params:data_processing.packing": asked.packing,
        "params:phantom": asked.phantom,
        **{f"params:validation.{name}": getattr(asked, name) for name in ("classifier", "comparison", "explanations")},
        "params:validation.fidelity": asked.fidelity,
        "params:validation.utility": asked.utility,
    }
    parts = [part for part in [*SECTIONS, *questions()] if part.name != "utility" or asked.utility]
    steps = [*comparison.STEPS, *(step for part in parts for step in part.steps)]
    with tqdm(in_order(steps), unit="step") as bar:
        for step in bar:
            bar.set_description(step.name)
            made = step.run(*(data[name] for name in step.takes))
            data |= {step.makes: made} if isinstance(step.makes, str) else dict(zip(step.makes, made, strict=True))
    results = Results(cells.about, asked.comparison.positive_class, asked.comparison.confidence, data)
    summary = summary_of(results, synthetic, asked.classifier, asked.comparison)
    return Validation(results, {name: made for name, made in data.items() if isinstance(made, Figure)}, summary)


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Steps in the order given, but each after those that make what it takes.

    Raises:
        ValueError: two make the same thing.
    """
    maker: dict[str, Step] = {}
    for step in steps:
        for made in step.made:
            if made in maker:
                raise ValueError(f"{made} is made by {maker[made].name} and by {step.name}; rename one")
            maker[made] = step
    ordered: list[Step] = []

    def add(step: Step) -> None:
        if step not in ordered:
            for taken in step.takes:
                if taken in maker:
                    add(maker[taken])
            ordered.append(step)

    for step in steps:
        add(step)
    return ordered


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
