"""Nodes of the diffusion pipeline."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import Remedy, UserError
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


def draw_training(training_history: pd.DataFrame, ddpm_checkpoint: dict[str, Any], ddpm: DiffusionModel) -> Figure:
    """Figure 7: the DDPM's loss.

    Raises:
        UserError: the history is of another training than the model.
    """
    trained, model = (ddpm_checkpoint["identity"], ddpm_checkpoint["epochs"]), ddpm.lineage
    if trained != (model.identity, model.epochs):
        raise UserError(
            f"training_history is of training {trained[0]}, {trained[1]} epochs, but ddpm is of {model.identity}, "
            f"{model.epochs}: train on and export it",
            Remedy.TRAINING,
        )
    return figures.loss_curve(training_history, model.kind)
