"""The node of the guidance pipeline."""

import logging

import numpy as np
import pandas as pd

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.observer import observer
from malaria_diffusion.statistics.comparison import per_class_number
from malaria_diffusion.studies.config import GuidanceParameters
from malaria_diffusion.studies.guidance import choose_guidance, guidance_table

logger = logging.getLogger(__name__)

MOST_CELLS = 4000


def compare_guidance_scales(
    ddpm: DiffusionModel, cells: Cells, sampling: SamplingParameters, guidance: GuidanceParameters
) -> pd.DataFrame:
    """Generate with each scale and say which one to put into diffusion.sampling.guidance."""
    names = ddpm.lineage.class_names
    rng = np.random.default_rng(sampling.seed)
    val, typical = (
        side.balanced(per_class_number(MOST_CELLS, side.table), rng)
        for side in (cells.part("val"), cells.part("train"))
    )
    labels = np.repeat(np.arange(len(names)), guidance.images // len(names))
    table = guidance_table(ddpm, guidance.scales, labels, sampling, val, typical.pixels)
    chosen = choose_guidance(table)
    logger.info("set diffusion.sampling.guidance to %g", chosen)
    observer().log_metrics(
        {"guidance": {"chosen": chosen} | {f"{row['guidance']:g}": row for row in table.to_dict("records")}}
    )
    return table.assign(chosen=table["guidance"] == chosen, model=ddpm.lineage.identity)
