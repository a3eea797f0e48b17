"""What is known of a diffusion model without its images: its bound, and what it does."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.config import BoundParameters, SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.errors import UserError
from malaria_diffusion.figures import diffusion as figures
from malaria_diffusion.observer import observer
from malaria_diffusion.questions.question import Step
from malaria_diffusion.statistics.comparison import per_class_number


def measure_bound(
    cells: Cells, ddpm: DiffusionModel, bound: BoundParameters, sampling: SamplingParameters
) -> dict[str, Any]:
    """The variational bound on cells of the test people, term by term, and the ends of the schedule.

    Returns:
        JSON-ready, all terms in bits per dimension: identity and best_epoch (of the model), images and people (their
        numbers), prior (L_T), by variance the fields of `diffusion.bound.Terms`, steps (where the curves' points lie),
        and schedule, see `ScheduleEnds`.

    Raises:
        UserError: the cells chosen are all of one person.
    """
    from malaria_diffusion.compute.device import resolve_device
    from malaria_diffusion.diffusion.bound import variational_bound
    from malaria_diffusion.diffusion.process.schedule import schedule_ends

    test = cells.part("test")
    per_class = max(1, per_class_number(bound.images, test.table))
    chosen = test.balanced(per_class, np.random.default_rng(bound.seed))
    people = len(set(chosen.people.tolist()))
    if people < 2:
        raise UserError(
            f"diffusion.bound.images is {bound.images}: the {len(chosen)} cells drawn are of one person, an interval "
            "over people needs two; raise it"
        )
    device = resolve_device(sampling.device)
    found = variational_bound(ddpm.denoiser, chosen, bound, device)
    measured = {
        "identity": ddpm.lineage.identity,
        "best_epoch": ddpm.lineage.best_epoch,
        "images": len(chosen),
        "people": people,
        "prior": found.prior,
        "variances": {
            variance.value: terms._asdict() | {"curve": terms.curve.tolist()} for variance, terms in found.terms.items()
        },
        "steps": found.steps.tolist(),
        "schedule": schedule_ends(ddpm.diffusion.schedule)._asdict(),
    }
    observer().log_metrics({"bound": measured})
    return measured


def draw_process(cells: Cells, ddpm: DiffusionModel, sampling: SamplingParameters) -> Figure:
    """Figure 1: noise added to a cell of the test people step by step, and removed again by the network."""
    from malaria_diffusion.diffusion.trajectories import forward_trajectory, reverse_trajectory

    first = cells.part("test")[[0]]
    forward = forward_trajectory(ddpm.diffusion, first.pixels[0], sampling.seed)
    reverse = reverse_trajectory(ddpm, int(first.classes[0]), sampling)
    return figures.process(forward, reverse, str(first.labels[0]), ddpm.lineage.kind)


def draw_bound(variational_bound: dict[str, Any], cells: Cells) -> Figure:
    """Figure 8: the bound's terms, step by step and summed."""
    return figures.bound(variational_bound, cells.caption)


STEPS = (
    Step(draw_process, ("cells", "ddpm", "params:diffusion.sampling"), "figure_1_process"),
    Step(measure_bound, ("cells", "ddpm", "params:diffusion.bound", "params:diffusion.sampling"), "variational_bound"),
    Step(draw_bound, ("variational_bound", "cells"), "figure_8_bound"),
)
