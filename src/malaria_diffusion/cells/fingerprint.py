"""Short names for contents: two things with the same fingerprint are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.errors import Remedy, UserError

DIGITS = 16
ROWS_AT_ONCE = 4096
PRINTS = ("fingerprint", "table_fingerprint")  # of images, and of their table


def fingerprint_json(value: Any) -> str:
    """Fingerprint of anything JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


def fingerprint_names(names: Iterable[str]) -> str:
    """Fingerprint of a set of names, whatever their order."""
    return fingerprint_json(sorted(set(names)))


def short_hashes(table: pd.DataFrame) -> list[str]:
    """First digits of the files' sha256, sorted: enough to recognise a cell whatever its name."""
    return sorted(table["sha256"].str[:DIGITS])


def fingerprint_cells(cells: NDArray[np.uint8], table: pd.DataFrame) -> str:
    """Fingerprint of images with their labels and, of packed ones, names.

    Args:
        cells: uint8, (N, 3, S, S).
        table: N rows with the column label and, of packed cells, name.

    Raises:
        UserError: the two do not have the same length, so one of them is from another run.
    """
    if len(cells) != len(table):
        raise UserError(
            f"cells has {len(cells)} images but cell_table {len(table)} rows: they are from different runs; pack and "
            "split again",
            Remedy.DATA,
        )
    digest = hashlib.sha256(repr(cells.shape).encode())
    for start in range(0, len(cells), ROWS_AT_ONCE):
        digest.update(np.ascontiguousarray(cells[start : start + ROWS_AT_ONCE]).data)
    names = table["label"] + "/" + table["name"] if "name" in table else table["label"]
    digest.update("\n".join(names).encode())
    return digest.hexdigest()[:DIGITS]


def fingerprint_table(table: pd.DataFrame) -> str:
    """Fingerprint of all columns of a table, so also of how its cells are split, whatever its index."""
    return hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode()).hexdigest()[:DIGITS]


def fingerprints_of(cells: NDArray[np.uint8], table: pd.DataFrame) -> dict[str, str]:
    """Both, as the facts of cells hold them; see `fingerprint_cells`."""
    return dict(zip(PRINTS, (fingerprint_cells(cells, table), fingerprint_table(table)), strict=True))


def state_of(facts: dict[str, Any]) -> str | None:
    """What tells cells and their split from others, of their facts; None of facts without (an earlier version's)."""
    return "-".join(facts[name] for name in PRINTS) if facts.keys() >= set(PRINTS) else None
