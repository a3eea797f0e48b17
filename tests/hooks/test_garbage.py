"""Garbage collections of a run leave out what was there before, which is not what could be collected."""

import atexit
import gc
import weakref

import pytest

from malaria_diffusion.hooks.garbage import GarbageHooks


class Circle:
    def __init__(self):
        self.itself = self


@pytest.fixture
def hooks():
    yield GarbageHooks()
    atexit.unregister(gc.freeze)


def test_what_was_there_before_a_run_is_left_out_and_garbage_is_not(hooks):
    frozen = gc.get_freeze_count()
    gone, kept = weakref.ref(Circle()), Circle()
    hooks.before_pipeline_run()
    assert gone() is None
    assert gc.get_freeze_count() > frozen
    later, known = weakref.ref(Circle()), weakref.ref(kept)
    del kept
    gc.collect()
    assert later() is None
    assert known() is not None  # the price of it
