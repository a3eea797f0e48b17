"""Class probabilities of cells, by a trained classifier or by one that has learned nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.classifier.data import check_cells
from malaria_diffusion.classifier.sandbox import private_ultralytics
from malaria_diffusion.compute.config import DeviceName
from malaria_diffusion.errors import UserError

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def predict(checkpoint: Path, cells: NDArray[np.uint8], device: DeviceName = "auto") -> NDArray[np.float32]:
    """Class probabilities of cells, prepared as they were in validation.

    Args:
        checkpoint: what `train_classifier` returned; it carries the image size, and whether to average over mirrorings.
        cells: (N, 3, S, S), RGB, 0..255; may be a memory map, read a batch at a time.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Returns:
        (N, classes); each row sums to 1.

    Raises:
        ValueError: `cells` of the wrong type or shape, or a checkpoint that is unsafe or not a YOLOv8 classifier.
    """
    check_cells(cells)
    return load_predictor(checkpoint, device)(cells)


def load_predictor(
    checkpoint: Path, device: DeviceName = "auto", test_time_augmentation: bool | None = None
) -> Predictor:
    """`predict` for many calls: the checkpoint is read once.

    Args:
        checkpoint: see `predict`.
        device: see `predict`.
        test_time_augmentation: whether to average over the eight mirrorings and turns of each cell. None: as the
            checkpoint was trained to be used (`ClassifierParameters.test_time_augmentation`).

    Returns:
        A function from cells, uint8 (N, 3, S, S), to their class probabilities (N, classes).

    Raises:
        ValueError: a checkpoint that is unsafe or not a YOLOv8 classifier; the function, on cells of the wrong type or
            shape.
    """
    return _predictor(checkpoint, device, test_time_augmentation)


def random_classifier(
    checkpoint: Path, typical: NDArray[np.uint8], seed: int, device: DeviceName = "auto"
) -> Predictor:
    """The same architecture with new random weights: what an untrained network says of cells.

    Args:
        checkpoint: the trained classifier, for its architecture, classes and image size.
        typical: (M, 3, S, S), at least two cells; batch normalisation is fitted to them, as without that the output of
            random weights hardly varies with the image.
        seed: of the weights.
        device: see `predict`.

    Raises:
        ValueError: see `load_predictor`, and fewer than two typical cells.
    """
    check_cells(typical)
    if len(typical) < 2:
        raise UserError(f"A random classifier is fitted to at least 2 typical cells; found {len(typical)}.")
    return _predictor(checkpoint, device, False, typical, seed)


def _predictor(checkpoint: Path, *arguments: Any) -> Predictor:
    with private_ultralytics():
        from malaria_diffusion.classifier import yolo

        loaded = yolo.load_predictor(Path(checkpoint), *arguments)

    def predictor(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_cells(cells)
        with private_ultralytics():  # it sets the number of threads, too
            return loaded(cells)

    return predictor
