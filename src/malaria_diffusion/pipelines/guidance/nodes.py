"""The node of the guidance pipeline."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.split import training_rows
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.statistics.comparison import balanced_rows, per_class_number
from malaria_diffusion.studies.config import GuidanceParameters
from malaria_diffusion.studies.guidance import choose_guidance, guidance_table
from malaria_diffusion.tracking import log as tracking

logger = logging.getLogger(__name__)

MOST_CELLS = 4000


def compare_guidance_scales(
    ddpm: Path,
    cells: NDArray[np.uint8],
    cell_table: pd.DataFrame,
    sampling: SamplingParameters,
    guidance: GuidanceParameters,
) -> pd.DataFrame:
    """Generate with each scale and say which one to put into diffusion.sampling.guidance."""
    from malaria_diffusion.diffusion.model import DiffusionModel

    model = DiffusionModel.load(ddpm)
    names = model.lineage.class_names
    rng = np.random.default_rng(sampling.seed)
    sides = {}
    for side, mask in (("val", cell_table["split"] == "val"), ("train", training_rows(cell_table))):
        table = cell_table[mask]
        sides[side] = balanced_rows(table["label"], per_class_number(MOST_CELLS, table), rng)
    table = guidance_table(
        model,
        guidance.scales,
        np.repeat(np.arange(len(names)), guidance.images // len(names)),
        sampling,
        cells[sides["val"]],
        cell_table["label"].iloc[sides["val"]].map(names.index).to_numpy(),
        cells[sides["train"]],
    )
    chosen = choose_guidance(table)
    logger.info("set diffusion.sampling.guidance to %g", chosen)
    tracking.log_metrics(
        {"guidance": {"chosen": chosen} | {f"{row['guidance']:g}": row for row in table.to_dict("records")}}
    )
    return table.assign(chosen=table["guidance"] == chosen, model=model.lineage.identity)
