"""Cells for tests, arrays and tables as the study has them; and the plainest training."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.config import TrainingParameters


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


def toy_training(**changes: Any) -> TrainingParameters:
    """One epoch of Adam with nothing added, but for `changes`."""
    plain = {
        "epochs": 1,
        "batch_size": 4,
        "accumulation": 1,
        "loss": "simple",
        "label_dropout": 0.0,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "decay_epochs": None,
        "gradient_clip": 1.0,
        "ema_decay": 0.9,
        "flips": True,
        "precision": "float32",
        "compile": False,
        "device": "cpu",
        "seed": 0,
        "quality_epochs": 1,
        "quality_images": 4,
    }
    return TrainingParameters(**plain | changes)
