"""Figures that later nodes can read back, for the report."""

from __future__ import annotations

from pathlib import Path

from kedro_datasets.matplotlib import MatplotlibDataset


class FigureDataset(MatplotlibDataset):
    """A matplotlib figure kept as PNG; loads as the bytes of that file and previews in kedro viz."""

    def load(self) -> bytes:
        """The PNG file's content."""
        return Path(self._get_load_path()).read_bytes()
