"""Ultralytics, kept to its work: no trackers, no statistics, no downloads, no installs, no settings of the user's."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

TRACKERS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


@contextmanager
def private_ultralytics() -> Iterator[None]:
    """Ultralytics with settings of its own, silent, and without side effects on this process or the user's folders."""
    import torch  # before ultralytics, which would leave torch a single thread

    threads = torch.get_num_threads()
    if "ultralytics" not in sys.modules:
        # These are read once, at import. The user's settings are neither read nor created, nothing is looked up on
        # the network, and no package is installed behind our back.
        with tempfile.TemporaryDirectory() as settings:
            private = {
                "YOLO_CONFIG_DIR": settings,
                "YOLO_OFFLINE": "true",
                "YOLO_AUTOINSTALL": "false",
                "YOLO_VERBOSE": "false",
                "OMP_NUM_THREADS": str(threads),
            }
            before = {name: os.environ.get(name) for name in private}
            os.environ.update(private)
            pillows_open = Image.open
            try:
                import ultralytics  # noqa: F401
            finally:
                Image.open = pillows_open  # theirs wants another package before it says that bytes are no image
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})
    from ultralytics.utils import LOGGER, SETTINGS

    torch.set_num_threads(threads)
    theirs, level = dict(SETTINGS), LOGGER.level
    dict.update(SETTINGS, dict.fromkeys(TRACKERS, False))  # dict's own update: theirs would write the file
    LOGGER.setLevel("ERROR")
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        dict.update(SETTINGS, theirs)
        torch.set_num_threads(threads)
