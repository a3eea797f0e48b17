"""The node of the data_processing pipeline."""

from pathlib import Path

import pandas as pd

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.sources import ImageSource
from malaria_diffusion.cells.split import SplitParameters
from malaria_diffusion.study import data


def prepare_cells(
    raw_cells: ImageSource, workspace: Path, packing: PackingParameters, split: SplitParameters
) -> tuple[Cells, pd.DataFrame]:
    """Pack and split in one node: an archive that cannot be split leaves the earlier cells untouched."""
    return data.prepare_cells(raw_cells, workspace / "packing.npy", packing, split)
