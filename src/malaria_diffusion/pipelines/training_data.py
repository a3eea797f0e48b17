"""The cells of the catalog as the library trains on them; shared, so that the same training has the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.grey import all_grey
from malaria_diffusion.cells.split import training_cells_fingerprint, training_rows

if TYPE_CHECKING:  # it imports torch
    from malaria_diffusion.diffusion.training.data import TrainingData


def training_data(cells: NDArray[np.uint8], cell_table: pd.DataFrame, cells_fingerprint: str) -> TrainingData:
    """Cells, class indices in the order of the classes' names, and which rows train and which watch."""
    from malaria_diffusion.diffusion.training.data import TrainingData

    class_names = sorted(cell_table["label"].unique())
    return TrainingData(
        cells=cells,
        labels=cell_table["label"].map(class_names.index).to_numpy(np.int64),
        train_rows=np.flatnonzero(training_rows(cell_table)),
        val_rows=np.flatnonzero(cell_table["split"] == "val"),
        num_classes=len(class_names),
        fingerprint=f"{cells_fingerprint} {training_cells_fingerprint(cell_table)}",
        grey=all_grey(cells),
    )
