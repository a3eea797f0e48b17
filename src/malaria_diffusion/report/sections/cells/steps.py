"""Whose cells there are."""

from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.figures.dataset import dataset_figure
from malaria_diffusion.questions.question import Step


def draw_dataset(cells: Cells) -> Figure:
    """Figure 0: people and cells by split and class."""
    return dataset_figure(cells.table, cells.kind)


STEPS = (Step(draw_dataset, ("cells",), "figure_0_dataset"),)
