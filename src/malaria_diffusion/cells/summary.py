"""What is in the packed cells, in numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.split import SPLITS, SplitParameters, strata, training_rows


def summarise(
    table: pd.DataFrame, rejected: pd.DataFrame, packing: PackingParameters, split: SplitParameters
) -> dict[str, Any]:
    """Counts of images and people by split, class and stratum.

    Args:
        table: `cell_table`.
        rejected: `rejected_cells`.
        packing: How the images were packed.
        split: How they were split.

    Returns:
        JSON-ready; "images" names what they are, "phantom cells" if any of them was drawn.
    """
    by_split = {}
    of_stratum = strata(table)
    for name in SPLITS:
        part = table[table["split"] == name]
        by_split[name] = {
            "people": int(part["person"].nunique()),
            "people_by_classes": of_stratum[part["person"].unique()].value_counts().to_dict(),
            "cells": len(part),
            "cells_by_class": part["label"].value_counts().sort_index().to_dict(),
        }
    return {
        "images": "phantom cells" if table["phantom"].any() else "real cells",
        "classes": sorted(table["label"].unique()),
        "cells": len(table),
        "people": int(table["person"].nunique()),
        "trained_on": int(training_rows(table).sum()),
        "audit": int(table["audit"].sum()),
        "rejected": len(rejected),
        "rejected_by_reason": rejected["reason"].str.split(":").str[0].value_counts().to_dict(),
        "splits": by_split,
        "size": packing.size,
        "background": list(packing.background),
        "common_side": packing.common_side,
        "split_strategy": split.strategy,
        "split_seed": split.seed,
        # what the test cells may be called
        "unseen": "unseen people" if split.strategy == "person" and split.person_patterns else "unseen images",
        "median_width": float(table["width"].median()),
        "median_height": float(table["height"].median()),
    }
