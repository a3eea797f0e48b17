"""A catalog entry that another pipeline may or may not have made."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset


class IfPresent(AbstractDataset[Any, Any]):
    """What the wrapped entry holds, or None where nothing has been saved yet.

    For results that a report shows if they are there, and does without if they are not.
    """

    def __init__(self, *, dataset: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        self._dataset = AbstractDataset.from_config("wrapped", dataset)
        self.metadata = metadata
        if hasattr(self._dataset, "preview"):  # of which kedro viz reads the signature
            self.preview = self._dataset.preview

    @property
    def wrapped(self) -> AbstractDataset[Any, Any]:
        """The entry of what may be there."""
        return self._dataset

    def load(self) -> Any | None:
        """What was saved, or None."""
        return self._dataset.load() if self._dataset.exists() else None

    def save(self, data: Any) -> None:
        """Save as the wrapped entry does."""
        self._dataset.save(data)

    def _exists(self) -> bool:
        return self._dataset.exists()

    def _describe(self) -> dict[str, Any]:
        return self._dataset._describe()
