"""Refuse to judge a model by people it has trained on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from malaria_diffusion.cells.fingerprint import fingerprint_names, short_hashes
from malaria_diffusion.errors import UserError


class LeakError(UserError):
    """Synthetic cells may carry what the validation is meant to hold out."""


def refuse_leaks(
    synthetic_table: pd.DataFrame, lineage: dict[str, Any], cell_table: pd.DataFrame, split_strategy: str
) -> None:
    """Check synthetic cells against the current split.

    No cell that validates or tests may be among those the model trained on, whatever its name; split by person, no
    such person either.

    Args:
        synthetic_table: Columns model_identity and training_people_hash.
        lineage: Of the model, see `ddpm.model.Lineage`.
        cell_table: The current split.
        split_strategy: "person" or "cell".

    Raises:
        LeakError: naming what was found and what to do.
    """
    again = "run `kedro run --pipeline diffusion` on the current split first"
    stated = set(zip(synthetic_table["model_identity"], synthetic_table["training_people_hash"], strict=True))
    expected = {(lineage["identity"], fingerprint_names(lineage["training_people"]))}
    if stated != expected:
        raise LeakError(f"synthetic_table names {sorted(stated)}, synthetic_lineage is of {sorted(expected)}; {again}")
    held_out = cell_table[cell_table["split"] != "train"]
    cells = set(short_hashes(held_out)) & set(lineage["training_cells"])
    if cells:
        raise LeakError(
            f"model {lineage['identity']} trained on {len(cells)} of the {len(held_out)} cells that now validate or "
            f"test: its cells would leak them; {again}"
        )
    people = set(held_out["person"])
    seen = sorted(people & set(lineage["training_people"]))
    if seen and split_strategy == "person":
        raise LeakError(
            f"model {lineage['identity']} trained on {len(seen)} of the {len(people)} people who now validate or test "
            f"({', '.join(seen[:5])}{', ...' if len(seen) > 5 else ''}): its cells would leak them; {again}"
        )
