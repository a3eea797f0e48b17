"""Figures that later nodes can read back, for the report."""

from __future__ import annotations

from kedro.io.core import get_filepath_str
from kedro_datasets.matplotlib.matplotlib_dataset import MatplotlibDataset


class FigureDataset(MatplotlibDataset):
    """A matplotlib figure kept as PNG; loads as the bytes of that file and previews in kedro viz."""

    def load(self) -> bytes:  # type: ignore[override]  # theirs never loads
        """The PNG file's content."""
        content: bytes = self._fs.cat_file(get_filepath_str(self._get_load_path(), self._protocol))
        return content
