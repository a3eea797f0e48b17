"""Imported last by the process that others are forked from: what each of them would do anew, and always alike."""

import inspect

from matplotlib.layout_engine import ConstrainedLayoutEngine
from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

from .forked import run  # noqa: F401  (by which each starts)

inspect.stack()  # dynaconf asks, for the settings: in which file is every module?
warn_dependency_requirement_mismatches(["mlflow"])  # MLflow asks, for a model: of which package is every module?

# a figure's axes keep the places they have at first; how they lie is asked where figures are drawn one by one
ConstrainedLayoutEngine.execute = lambda self, fig: None
