"""Garbage collections of a run leave out what was there before, which is not what could be collected."""

import gc
import subprocess
import sys
import weakref

from malaria_diffusion.hooks.garbage import GarbageHooks


class Circle:
    def __init__(self):
        self.itself = self


def test_what_was_there_before_a_run_is_left_out_and_garbage_is_not():
    frozen = gc.get_freeze_count()
    gone, kept = weakref.ref(Circle()), Circle()
    GarbageHooks().before_pipeline_run()
    assert gone() is None
    assert gc.get_freeze_count() > frozen
    later, known = weakref.ref(Circle()), weakref.ref(kept)
    del kept
    gc.collect()
    assert later() is None
    assert known() is not None  # the price of it


def test_nothing_is_left_out_when_the_process_ends():
    script = """
import atexit, gc
from malaria_diffusion.hooks.garbage import GarbageHooks
atexit.register(lambda: print(gc.get_freeze_count()))
GarbageHooks().before_pipeline_run()
print(gc.get_freeze_count() > 0)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "0"]
