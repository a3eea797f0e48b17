"""The catalog, with entries that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.framework.context import CatalogCommandsMixin
from kedro.io import DataCatalog

from malaria_diffusion.files import whole


class WholeFiles(DataCatalog, CatalogCommandsMixin):
    """Kedro's catalog, but that a file is written beside its place and renamed.

    Kedro's own entries write over the earlier file, which a full disk or a killed run then leaves neither old nor new.
    """

    def save(self, ds_name: str, data: Any) -> None:
        """Save, and leave the earlier file where that fails."""
        entry: Any = self[ds_name]
        while hasattr(entry, "_dataset"):  # of the project's own, which wrap Kedro's
            entry = entry._dataset
        # the project's other entries see to it themselves, an object store does, and versions have places of their own
        if getattr(entry, "_protocol", None) != "file" or entry._version:
            super().save(ds_name, data)
            return
        place = entry._filepath
        try:
            with whole(Path(place)) as beside:
                entry._filepath = type(place)(beside)
                super().save(ds_name, data)
        finally:
            entry._filepath = place
