"""Are synthetic cells new, or do they give training people's cells away."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.questions.fidelity.measure import ProjectedSpace
from malaria_diffusion.questions.privacy import figure as figures
from malaria_diffusion.questions.privacy.membership import Membership, membership_attack
from malaria_diffusion.questions.privacy.novelty import PrivacyAudit, privacy_audit
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import Comparison
from malaria_diffusion.statistics.config import ComparisonParameters

logger = logging.getLogger(__name__)


def audit_privacy(
    comparison: Comparison, feature_space: ProjectedSpace, parameters: ComparisonParameters
) -> tuple[PrivacyAudit, pd.DataFrame]:
    """Nearest neighbours among training cells, beside cells of the same people that nothing was trained on."""
    study, synthetic = comparison.study, comparison.synthetic
    audit = privacy_audit(
        synthetic,
        study.part("train"),
        study.part("audit"),
        {"features": feature_space.__call__},  # mypy takes no named tuple for a function
        Bootstrap.of(parameters),
    )
    if not audit.summary["testable"]:
        logger.warning("novelty cannot be tested: %s", audit.summary["reason"])
    # positions among the compared cells become rows of all synthetic ones
    rows = synthetic.places[audit.closest["synthetic"].to_numpy(dtype=int)]
    return audit, audit.closest.assign(synthetic=rows)


def attack_membership(
    ddpm: DiffusionModel,
    comparison: Comparison,
    sampling: SamplingParameters,
    parameters: ComparisonParameters,
) -> Membership:
    """Tell members from non-members, and training people from others, by how well the model denoises them."""
    from malaria_diffusion.compute.device import Compute

    compute = Compute.of(sampling.device, sampling.precision)
    rng = np.random.default_rng(parameters.seed)
    return membership_attack(ddpm.denoiser, comparison.study, compute, parameters.confidence, rng)


def summarise_privacy(novelty: PrivacyAudit, membership: Membership) -> dict[str, Any]:
    """Both audits in numbers."""
    return {"novelty": novelty.summary, "membership": membership.summary}


def draw_nearest_cells(novelty: PrivacyAudit) -> Figure:
    """Distances to members and non-members."""
    return figures.nearest_distances(novelty)


def draw_closest_pairs(comparison: Comparison, closest_pairs: pd.DataFrame) -> Figure:
    """The synthetic cells closest to a training cell, above it."""
    return figures.closest_pairs(comparison.generated.pixels, comparison.study.pixels, closest_pairs)


def draw_membership(membership: Membership) -> Figure:
    """ROC curve of the attack."""
    return figures.membership_roc(membership)


STEPS = (
    Step(audit_privacy, ("comparison", "feature_space", "params:validation.comparison"), ("novelty", "closest_pairs")),
    Step(
        attack_membership,
        ("ddpm", "comparison", "params:diffusion.sampling", "params:validation.comparison"),
        "membership",
    ),
    Step(summarise_privacy, ("novelty", "membership"), "privacy_audit"),
    Step(draw_nearest_cells, ("novelty",), "figure_nearest"),
    Step(draw_closest_pairs, ("comparison", "closest_pairs"), "figure_closest_pairs"),
    Step(draw_membership, ("membership",), "figure_membership"),
)
