"""Garbage collections of a run, which would look through a million objects that are there to stay."""

from __future__ import annotations

import atexit
import gc

from kedro.framework.hooks import hook_impl


class GarbageHooks:
    """Leaves out of them what was there before the run."""

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Collect once more; what remains stays, until the process ends."""
        gc.collect()
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries complain, then, of what was never deleted
