"""Pages for a browser, as a text that kedro viz shows as the page it is."""

from __future__ import annotations

from kedro_datasets._typing import HTMLPreview
from kedro_datasets.text.text_dataset import TextDataset


class PageDataset(TextDataset):
    """An HTML file; loads as its text."""

    def preview(self) -> HTMLPreview:
        """The page."""
        return HTMLPreview(self.load())
