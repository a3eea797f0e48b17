"""Are synthetic cells new, or do they give training people's cells away."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Node, Pipeline
from matplotlib.figure import Figure
from numpy.typing import NDArray

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.questions.fidelity.measure import ProjectedSpace
from malaria_diffusion.questions.privacy import figure as figures
from malaria_diffusion.questions.privacy.novelty import PrivacyAudit, privacy_audit
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)


def audit_privacy(
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    synthetic_cells: NDArray[np.uint8],
    synthetic_table: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    feature_space: ProjectedSpace,
    comparison: ComparisonParameters,
) -> tuple[PrivacyAudit, pd.DataFrame]:
    """Nearest neighbours among training cells, beside cells of the same people that nothing was trained on."""
    sides = {side: np.flatnonzero(mask) for side, mask in _sides(cell_table).items()}
    chosen = np.array(compared_rows["synthetic"])
    audit = privacy_audit(
        synthetic_cells[chosen],
        synthetic_table["label"].iloc[chosen].to_numpy(dtype=str),
        cells[sides["members"]],
        cell_table.iloc[sides["members"]],
        cells[sides["unseen"]],
        cell_table.iloc[sides["unseen"]],
        {"features": feature_space.__call__},  # mypy takes no named tuple for a function
        Bootstrap.of(comparison),
    )
    if not audit.summary["testable"]:
        logger.warning("novelty cannot be tested: %s", audit.summary["reason"])
    # positions among the compared cells become rows of synthetic_table
    return audit, audit.closest.assign(synthetic=chosen[audit.closest["synthetic"].to_numpy(dtype=int)])


def attack_membership(
    ddpm: Path,
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    compared_rows: dict[str, list[int]],
    sampling: SamplingParameters,
    comparison: ComparisonParameters,
) -> Any:
    """Tell members from non-members by how well the model denoises them.

    compared_rows is an input so that a model that is refused is not attacked.
    """
    from malaria_diffusion.compute.device import resolve_device, resolve_precision
    from malaria_diffusion.diffusion.model import DiffusionModel
    from malaria_diffusion.questions.privacy.membership import membership_attack

    model, device = DiffusionModel.load(ddpm), resolve_device(sampling.device)
    rows = {side: np.flatnonzero(mask) for side, mask in _sides(cell_table).items()}
    return membership_attack(
        model.network,
        model.diffusion,
        model.lineage.class_names,
        cells[rows["members"]],
        cell_table.iloc[rows["members"]],
        cells[rows["unseen"]],
        cell_table.iloc[rows["unseen"]],
        device,
        resolve_precision(sampling.precision, device),
        Bootstrap.of(comparison),
        comparison.seed,
    )


def summarise_privacy(novelty: PrivacyAudit, membership: Any) -> dict[str, Any]:
    """Both audits in numbers."""
    return {"novelty": novelty.summary, "membership": membership.summary}


def draw_nearest_cells(novelty: PrivacyAudit) -> Figure:
    """Distances to members and non-members."""
    return figures.nearest_distances(novelty)


def draw_closest_pairs(
    cells: NDArray[np.uint8], synthetic_cells: NDArray[np.uint8], closest_pairs: pd.DataFrame
) -> Figure:
    """The synthetic cells closest to a training cell, above it."""
    return figures.closest_pairs(synthetic_cells, cells, closest_pairs)


def draw_membership(membership: Any) -> Figure:
    """ROC curve of the attack."""
    return figures.membership_roc(membership)


def create_pipeline() -> Pipeline:
    """The audit of novelty, the attack, their numbers and figures."""
    return Pipeline(
        [
            Node(
                audit_privacy,
                inputs=[
                    "cells",
                    "cell_table",
                    "synthetic_cells",
                    "synthetic_table",
                    "compared_rows",
                    "feature_space",
                    "params:validation.comparison",
                ],
                outputs=["novelty", "closest_pairs"],
                name="audit_privacy",
            ),
            Node(
                attack_membership,
                inputs=[
                    "ddpm",
                    "cells",
                    "cell_table",
                    "compared_rows",
                    "params:diffusion.sampling",
                    "params:validation.comparison",
                ],
                outputs="membership",
                name="attack_membership",
            ),
            Node(
                summarise_privacy,
                inputs=["novelty", "membership"],
                outputs="privacy_audit",
                name="summarise_privacy",
            ),
            Node(draw_nearest_cells, inputs="novelty", outputs="figure_nearest", name="draw_nearest_cells"),
            Node(
                draw_closest_pairs,
                inputs=["cells", "synthetic_cells", "closest_pairs"],
                outputs="figure_closest_pairs",
                name="draw_closest_pairs",
            ),
            Node(draw_membership, inputs="membership", outputs="figure_membership", name="draw_membership"),
        ]
    )


def _sides(cell_table: pd.DataFrame) -> dict[str, pd.Series]:
    """Members are trained on; non-members are the audit cells of the same people."""
    return {"members": training_rows(cell_table), "unseen": cell_table["audit"]}
