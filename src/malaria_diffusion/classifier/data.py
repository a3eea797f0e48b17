"""What a classifier may be trained on and asked about."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.errors import UserError

HASHED_AT_ONCE = 4096  # cells; bounds the memory the fingerprint of a memory map takes


class ClassifierData(NamedTuple):
    """What there is to learn from.

    Attributes:
        cells: uint8, (N, 3, S, S), RGB; may be a memory map.
        labels: (N,), the class of each cell, 0..len(class_names)-1.
        class_names: The name of each class.
        train_rows: Rows of `cells` to learn from, at least two.
        val_rows: Rows that are judged after each epoch, none of them in `train_rows`; where the best epoch is kept they
            choose it, by one view of each cell.
        epoch_cells: Rows in an epoch; the next goes on where it ends, from the end to the start. None: all.
    """

    cells: NDArray[np.uint8]
    labels: NDArray[np.integer]
    class_names: Sequence[str]
    train_rows: NDArray[np.integer]
    val_rows: NDArray[np.integer]
    epoch_cells: int | None = None


def check_cells(cells: NDArray[np.uint8]) -> None:
    """Make sure that these are cells.

    Raises:
        UserError: another type or shape.
    """
    if cells.dtype != np.uint8 or cells.ndim != 4 or cells.shape[1] != 3 or cells.shape[2] != cells.shape[3]:
        raise UserError(
            f"The cells are {cells.dtype} of shape {cells.shape}; expected uint8 of shape (N, 3, S, S), RGB."
        )


def check_data(data: ClassifierData) -> None:
    """Make sure that something can be learned from these rows.

    Raises:
        UserError: arrays of the wrong type or shape, rows or labels out of range, rows in both sets.
    """
    cells, labels, class_names, train_rows, val_rows, _ = data
    check_cells(cells)
    if labels.shape != (len(cells),):
        raise UserError(f"The labels have shape {labels.shape}; expected one per cell, ({len(cells)},).")
    if not np.isin(labels, np.arange(len(class_names))).all():
        raise UserError(
            f"The labels are {np.unique(labels).tolist()}; expected 0..{len(class_names) - 1}, one number for each of "
            f"the classes {list(class_names)}."
        )
    for name, rows, least in (("train_rows", train_rows, 2), ("val_rows", val_rows, 1)):
        if len(rows) < least or rows.min() < 0 or rows.max() >= len(cells):
            raise UserError(
                f"The {len(rows)} {name} must be at least {least} and lie in 0..{len(cells) - 1}, the cells there are."
            )
    if shared := len(np.intersect1d(train_rows, val_rows)):
        raise UserError(f"{shared} cells are in both train_rows and val_rows; a cell may be in only one of them.")


def fingerprint(data: ClassifierData, parameters: ClassifierParameters, weights: Path | None) -> str:
    """A name that changes with anything that a resumed run must have in common with the killed one."""
    cells, labels, class_names, train_rows, val_rows, epoch_cells = data
    digest = blake2b(parameters.model_dump_json(exclude={"device", "weights", "kept_epoch"}).encode(), digest_size=8)
    digest.update(repr((tuple(class_names), cells.shape[1:], len(train_rows))).encode())
    digest.update(b"" if epoch_cells is None else repr(epoch_cells).encode())
    digest.update(b"" if weights is None else Path(weights).read_bytes())
    rows = np.concatenate([train_rows, val_rows]).astype(np.int64)
    digest.update(rows.tobytes() + labels[rows].astype(np.int64).tobytes())
    for start in range(0, len(rows), HASHED_AT_ONCE):
        digest.update(np.ascontiguousarray(cells[rows[start : start + HASHED_AT_ONCE]]).data)
    return digest.hexdigest()
