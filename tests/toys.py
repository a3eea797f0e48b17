"""Cells for tests: arrays and tables as the study has them."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells


def toy(images: NDArray[np.uint8], table: pd.DataFrame, **about: Any) -> Cells:
    """Cells of these images; what all have in common is as of real cells on black, but for `about`."""
    common = {
        "images": "real cells",
        "unseen": "unseen people",
        "classes": sorted(table["label"].unique()),
        "background": [0, 0, 0],
        "grey": False,
        "fingerprint": "of nothing",
    }
    return Cells(images, table, common | about)
