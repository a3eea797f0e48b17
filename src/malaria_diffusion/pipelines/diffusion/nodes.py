"""Nodes of the diffusion pipeline."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.lineage import Lineage
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.figures import diffusion as figures


def sample_cells(ddpm: DiffusionModel, sampling: SamplingParameters) -> Cells:
    """Generate cells with the stored model; needs neither training nor the cells it was trained on."""
    return ddpm.generate(sampling)


def draw_sheet(synthetic_cells: Cells) -> Figure:
    """A sheet of what was generated."""
    return figures.sheet(synthetic_cells.pixels, synthetic_cells.table["label"], synthetic_cells.origin)


def write_images(synthetic_cells: Cells) -> Cells:
    """Synthetic cells as files for other people: PNG images that say what they are, with a manifest."""
    return synthetic_cells


def draw_training(training_history: pd.DataFrame, training_plan: dict[str, Any]) -> Figure:
    """Figure 7: the DDPM's loss."""
    return figures.loss_curve(training_history, Lineage.model_validate(training_plan).kind)
