"""Nodes of the attack with shadow models. torch is imported where it is used, so that listing pipelines stays quick."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.observer import observer
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.studies.config import ShadowParameters
from malaria_diffusion.studies.shadow import attack as attacks
from malaria_diffusion.studies.shadow.design import Design, design
from malaria_diffusion.studies.shadow.figure import roc_figure
from malaria_diffusion.studies.shadow.losses import Shadows

logger = logging.getLogger(__name__)

Targets = tuple[list[attacks.Target], attacks.Target]


def halve_cells(cells: Cells, shadow_models: ShadowParameters) -> Design:
    """Halve each person's cells of each class for each pair of shadow models."""
    return design(cells, shadow_models)


def train_shadows(
    ddpm: DiffusionModel,
    cells: Cells,
    shadow_design: Design,
    sampling: SamplingParameters,
    shadow_models: ShadowParameters,
    workspace: Path,
) -> tuple[Targets, dict[str, Any]]:
    """Train what is not trained yet, and score the cells under every model by both attacks."""
    folder = workspace / "shadow_models"
    shadows = Shadows(cells, shadow_design, ddpm.lineage, shadow_models, sampling, folder)
    losses = []
    for number in range(shadow_models.models):
        logger.info("shadow model %d of %d", number + 1, shadow_models.models)
        losses.append(shadows.losses(number))
    found = attacks.targets(shadow_design, shadows.measured, losses, shadows.losses_of(ddpm))
    facts = {"models": shadow_models.models, "images": shadows.images_seen, "identity": ddpm.lineage.identity}
    return found, facts


def attack_models(
    shadow_targets: Targets, shadow_design: Design, shadow_facts: dict[str, Any], comparison: ComparisonParameters
) -> tuple[attacks.Attack, pd.DataFrame, dict[str, Any]]:
    """How well members are told apart within person and class, with intervals over people."""
    found = attacks.attack(*shadow_targets, shadow_design, comparison.confidence)
    observer().log_metrics({"shadow_models": found.summary})
    for target, said in found.summary.items():
        logger.info("%s: %s", target, said["verdict"] if said["testable"] else said["reason"])
    return found, found.metrics, shadow_facts | {"matched_by": shadow_design.matched_by} | found.summary


def draw_attack(shadow_attack: attacks.Attack, cells: Cells) -> Figure:
    """ROC curves of both attacks on logarithmic axes."""
    return roc_figure(shadow_attack, cells.kind)
