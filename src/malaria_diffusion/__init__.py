"""Denoising diffusion for synthetic medical images, and their honest validation.

import malaria_diffusion as md

model = md.DiffusionModel.load("models/nlm-64")
synthetic = model.generate(md.SamplingParameters(count=8))  # synthetic.pixels: uint8, (16, 3, 64, 64)

From images of one's own to a report, which takes hours:

cells = md.pack("cell_images.zip", "runs/first")
model = md.train(cells, "runs/first")
synthetic = model.generate(md.SamplingParameters(count=500))
results = md.validate(model, synthetic, cells, "runs/first")
results.report("report.html")
"""

import os
import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from malaria_diffusion.cells.cells import Cells
    from malaria_diffusion.cells.packing import PackingParameters
    from malaria_diffusion.cells.split import SplitParameters
    from malaria_diffusion.classifier.config import ClassifierParameters
    from malaria_diffusion.diffusion.config import (
        NetworkParameters,
        ProcessParameters,
        SamplingParameters,
        TrainingParameters,
    )
    from malaria_diffusion.diffusion.model import DiffusionModel
    from malaria_diffusion.errors import UserError
    from malaria_diffusion.questions.utility.config import UtilityParameters
    from malaria_diffusion.statistics.config import ComparisonParameters
    from malaria_diffusion.study.data import pack
    from malaria_diffusion.study.training import train
    from malaria_diffusion.study.validation import Validation, ValidationParameters, validate

__all__ = [
    "Cells",
    "ClassifierParameters",
    "ComparisonParameters",
    "DiffusionModel",
    "NetworkParameters",
    "PackingParameters",
    "ProcessParameters",
    "SamplingParameters",
    "SplitParameters",
    "TrainingParameters",
    "UserError",
    "UtilityParameters",
    "Validation",
    "ValidationParameters",
    "pack",
    "train",
    "validate",
]

# Threads that wait for each other at the end of every loop spin for milliseconds by default; beside another busy
# process they spin for a core that it holds. Some ten microseconds are what a wait takes where nobody disturbs, and
# sleeping at once would cost more than that. OpenMP reads this once, when torch is imported.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    if "torch" in sys.modules:
        warnings.warn(
            "torch was imported before malaria_diffusion, so its threads wait as libgomp has it and "
            "not as this package was measured: import malaria_diffusion first, or set OMP_WAIT_POLICY=PASSIVE",
            stacklevel=2,
        )
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}

__version__ = "0.2.0"

_HOMES = {
    "Cells": "cells.cells",
    "ClassifierParameters": "classifier.config",
    "ComparisonParameters": "statistics.config",
    "DiffusionModel": "diffusion.model",
    "NetworkParameters": "diffusion.config",
    "PackingParameters": "cells.packing",
    "ProcessParameters": "diffusion.config",
    "SamplingParameters": "diffusion.config",
    "SplitParameters": "cells.split",
    "TrainingParameters": "diffusion.config",
    "UserError": "errors",
    "UtilityParameters": "questions.utility.config",
    "Validation": "study.validation",
    "ValidationParameters": "study.validation",
    "pack": "study.data",
    "train": "study.training",
    "validate": "study.validation",
}


def __getattr__(name: str) -> Any:
    """What is exported, imported when it is asked for (PEP 562): most commands need little of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
