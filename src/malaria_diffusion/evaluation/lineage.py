"""Refuse to judge a model by people it has trained on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.cells.split import training_rows


class LeakError(ValueError):
    """Synthetic cells may carry what the validation is meant to hold out."""


def refuse_leaks(
    synthetic_table: pd.DataFrame, lineage: dict[str, Any], cell_table: pd.DataFrame, split_strategy: str
) -> None:
    """Check synthetic cells against the current split.

    Split by person: nobody who validates or tests may be among the people the model trained on. Split by cell:
    people are on all sides by design, so the model must have trained on exactly the current training cells.

    Args:
        synthetic_table: Columns model_identity and training_people_hash.
        lineage: Of the model, see `ddpm.model.Lineage`.
        cell_table: The current split.
        split_strategy: "person" or "cell".

    Raises:
        LeakError: naming what was found and what to do.
    """
    again = "run `kedro run --pipeline diffusion` with the current split first"
    stated = set(zip(synthetic_table["model_identity"], synthetic_table["training_people_hash"], strict=True))
    expected = {(lineage["identity"], fingerprint_names(lineage["training_people"]))}
    if stated != expected:
        raise LeakError(
            f"synthetic_table names {sorted(stated)}, but synthetic_lineage is of {sorted(expected)}; {again}"
        )
    if split_strategy == "cell":
        trained_on = cell_table[training_rows(cell_table)]
        if lineage["training_cells_hash"] != fingerprint_names(trained_on["label"] + "/" + trained_on["name"]):
            raise LeakError(
                f"model {lineage['identity']} trained on other cells than this split by cell trains on; {again}"
            )
        return
    held_out = set(cell_table.loc[cell_table["split"] != "train", "person"])
    seen = sorted(held_out & set(lineage["training_people"]))
    if seen:
        raise LeakError(
            f"model {lineage['identity']} trained on {len(seen)} of the {len(held_out)} people who now validate or "
            f"test ({', '.join(seen[:5])}{', ...' if len(seen) > 5 else ''}): its cells would leak them; {again}"
        )
