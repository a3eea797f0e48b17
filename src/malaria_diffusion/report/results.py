"""What the report is made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

PAPER_CLASSES = ["Parasitized", "Uninfected"]


class Results(NamedTuple):
    """The results of one run, each named as in the catalog; tables as their pipelines make them.

    protocol_metrics and ablation_claims are of pipelines of their own: None where these have not been run.
    """

    dataset_summary: dict[str, Any]
    rejected_cells: pd.DataFrame
    variational_bound: dict[str, Any]
    classification_metrics: dict[str, Any]
    unseen_people: pd.DataFrame
    recognised: pd.DataFrame
    distribution_tests: pd.DataFrame
    descriptor_tests: pd.DataFrame
    association_differences: pd.DataFrame
    acquisition_explained: pd.DataFrame
    acquisition_untestable: pd.DataFrame
    acquisition_kept: pd.DataFrame
    fidelity_metrics: pd.DataFrame
    privacy_audit: dict[str, Any]
    closest_pairs: pd.DataFrame
    utility_metrics: pd.DataFrame
    explanations: pd.DataFrame
    protocol_metrics: pd.DataFrame | None = None
    ablation_claims: pd.DataFrame | None = None

    @property
    def protocols(self) -> pd.DataFrame | None:
        """protocol_metrics, if they are there and of these cells."""
        return self._of_these_cells(self.protocol_metrics)

    @property
    def steps(self) -> pd.DataFrame | None:
        """ablation_claims, if they are there and of these cells."""
        return self._of_these_cells(self.ablation_claims)

    @property
    def phantom(self) -> bool:
        """Whether the cells were drawn by a program."""
        return bool(self.dataset_summary["images"] == "phantom cells")

    @property
    def elsewhere(self) -> str | None:
        """What the images are, if they are not those of the paper, so that its claims cannot be tested on them."""
        if self.phantom:
            return "phantom cells"
        return None if self.dataset_summary["classes"] == PAPER_CLASSES else "other images"

    def _of_these_cells(self, table: pd.DataFrame | None) -> pd.DataFrame | None:
        if table is None or "fingerprint" not in table or table.empty:
            return None
        return table if (table["fingerprint"] == self.dataset_summary["fingerprint"]).all() else None


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
