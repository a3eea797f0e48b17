"""What the report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

PAPER_CLASSES = ["Parasitized", "Uninfected"]


@dataclass(frozen=True)
class Results:
    """The results of one run.

    Attributes:
        dataset: What is known of the cells, see `cells.summary`.
        positive_class: The finding, if one class is.
        confidence: Of the intervals, e.g. 0.95.
        found: Tables and numbers by their names in the catalog; None of a pipeline that has not been run.
    """

    dataset: dict[str, Any]
    positive_class: str | None
    confidence: float
    found: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.found[name]

    def of_these_cells(self, name: str) -> pd.DataFrame | None:
        """A table of a pipeline that is run on its own, if it is there and of these cells."""
        table = self.found.get(name)
        if table is None or "fingerprint" not in table or table.empty:
            return None
        return table if (table["fingerprint"] == self.dataset["fingerprint"]).all() else None

    @property
    def phantom(self) -> bool:
        """Whether the cells were drawn by a program."""
        return bool(self.dataset["images"] == "phantom cells")

    @property
    def elsewhere(self) -> str | None:
        """What the images are, if they are not those of the paper, so that its claims cannot be tested on them."""
        if self.phantom:
            return "phantom cells"
        return None if self.dataset["classes"] == PAPER_CLASSES else "other images"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts; a text that is missing is an empty one."""
    texts = table.columns.difference(table.select_dtypes("number").columns)
    filled = table.assign(**{name: table[name].fillna("") for name in texts})
    return [{str(name): value for name, value in row.items()} for row in filled.to_dict("records")]


def only(table: pd.DataFrame, **where: Any) -> dict[str, Any] | None:
    """The first row that has these values, if there is any."""
    for column, value in where.items():
        table = table[table[column] == value]
    return records(table.head(1))[0] if len(table) else None
