"""What several test packages share."""

import functools
import gc
import os
from pathlib import Path

# parallel workers on few cores: threads that wait for each other are slower than one
os.environ.setdefault("OMP_NUM_THREADS", "1")
# as the package says, which tests import after torch
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# shap compiles its loops for many seconds, which a few small cells do not win back
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

gc.disable()  # what is imported is there to stay, and looked through again and again while it grows
HERE = Path(__file__).parent
LONGEST = [
    "pipelines/test_study.py",
    "test_benchmarks.py",
    "diffusion/test_compiled.py",
    "pipelines",
    "diffusion/test_trainer.py",
    "test_style.py",
    "classifier",
    "diffusion",
    "test_notebooks.py",
    "test_threads.py",
    "test_library.py",
    "test_dependencies.py",
    "questions",
    "statistics",
    "studies",
]


def pytest_collection_modifyitems(items):
    """The longest files first: a worker takes whole ones, and none is to be left alone with a long one in the end."""

    @functools.cache
    def place(path):
        return next((k for k, name in enumerate(LONGEST) if path.is_relative_to(HERE / name)), len(LONGEST))

    items.sort(key=lambda item: place(item.path))


def pytest_collection_finish():
    """A garbage collection, as after every training of a classifier, need not visit what was imported."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_sessionfinish():
    gc.unfreeze()  # at the exit, things that were never deleted are complained of
