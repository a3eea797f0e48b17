"""Denoising diffusion for synthetic medical images, and their honest validation.

import malaria_diffusion as md

model = md.DiffusionModel.load("models/nlm-64")
cells = model.generate(md.SamplingParameters(count=8))  # cells.pixels: uint8, (16, 3, 64, 64)
"""

import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from malaria_diffusion.cells.cells import Cells
    from malaria_diffusion.diffusion.config import SamplingParameters
    from malaria_diffusion.diffusion.model import DiffusionModel
    from malaria_diffusion.errors import UserError

__all__ = ["Cells", "DiffusionModel", "SamplingParameters", "UserError"]

# Threads that wait for each other at the end of every loop spin for milliseconds by default; beside another busy
# process they spin for a core that it holds. Some ten microseconds are what a wait takes where nobody disturbs, and
# sleeping at once would cost more than that. OpenMP reads this once, when torch is imported.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    if "torch" in sys.modules:
        warnings.warn(
            "torch was imported before malaria_diffusion, so its threads spin while they wait, and training is slow "
            "beside other busy processes: import malaria_diffusion first, or set OMP_WAIT_POLICY=PASSIVE",
            stacklevel=2,
        )
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}

__version__ = "0.2.0"

_HOMES = {
    "Cells": "cells.cells",
    "DiffusionModel": "diffusion.model",
    "SamplingParameters": "diffusion.config",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    """What is exported, imported when it is asked for (PEP 562): most commands need little of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
