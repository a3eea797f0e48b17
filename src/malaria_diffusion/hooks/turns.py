"""Runs of one project at the same time: they take turns where they write the same files."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from malaria_diffusion.files import locked
from malaria_diffusion.sentences import without_traceback

HELD = ExitStack()  # the turns of this process, which has one run at a time


class TurnHooks:
    """Holds a lock on every file that a run writes until it ends; the end of the process releases it, too.

    Else the cells of one run would meet the table of another, and the model of one seed the name of another.
    """

    @hook_impl(tryfirst=True)
    @without_traceback()
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Wait until no other run writes what this one does."""
        HELD.close()  # of a run that was interrupted in this process, in a session that is not of `Session`
        for name in sorted(pipeline.all_outputs()):  # all runs in the same order, or two could wait for each other
            if not isinstance(catalog.get(name), MemoryDataset | None):
                HELD.enter_context(locked(catalog.load("workspace") / "turns" / name))

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Let the next one begin."""
        HELD.close()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Let the next one begin."""
        HELD.close()


class Session(KedroSession):
    """Kedro's, whose run lets the next one begin however it ends.

    Hooks are not told of Ctrl-C, which in a notebook ends no process, nor of what other hooks refuse.
    """

    def run(self, *args: Any, **options: Any) -> dict[str, Any]:
        """See `KedroSession.run`."""
        with HELD:
            return super().run(*args, **options)
