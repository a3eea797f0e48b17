"""What a study tells of itself while it runs: to MLflow in a Kedro run, to nobody elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Observer:
    """Hears all and keeps nothing; see `malaria_diffusion.tracking.log` for the one that does."""

    def log_metrics(self, metrics: dict[str, Any]) -> None:
        """Numbers, in a nested dict."""

    def log_figure(self, figure: Figure, artifact_file: str) -> None:
        """A picture, by the name of a file."""

    def set_tags(self, **tags: str) -> None:
        """What to find this by."""

    def log_json(self, value: dict[str, Any], artifact_file: str) -> None:
        """A document, by the name of a file."""

    def log_curves(self, frame: pd.DataFrame, prefix: str) -> None:
        """Curves over the column images_seen of `frame`."""

    def child_run(self, name: str, parameters: dict[str, Any]) -> AbstractContextManager[Observer]:
        """Who is told of a part of the study, such as one of many trainings, while it runs."""
        return nullcontext(self)


_observer = Observer()


def observer() -> Observer:
    """Who is told."""
    return _observer


def set_observer(new: Observer) -> None:
    """From now on tell `new`."""
    global _observer
    _observer = new
