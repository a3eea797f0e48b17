"""The catalog entry of a reader study's key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview
from pydantic import ValidationError

from malaria_diffusion.errors import UserError
from malaria_diffusion.files import whole
from malaria_diffusion.studies.reader.key import Key


class SealedKey(AbstractDataset[Key, Key]):
    """A JSON file that another key is never written over: with it all answers to its sheet would be lost."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Key:
        """Read the key.

        Raises:
            UserError: it is damaged.
        """
        try:
            return Key.model_validate_json(self._filepath.read_bytes())
        except ValidationError as error:
            raise UserError(
                f"{self._filepath}: damaged, found no key of a reader study; put back a copy of it"
            ) from error

    def save(self, data: Key) -> None:
        """Write the key, if none or the same one is there.

        Raises:
            UserError: another one is there.
        """
        if self._filepath.exists() and self.load() != data:
            raise UserError(
                f"{self._filepath}: found the key of another sheet, which readers may have; score their answers with "
                "`kedro run --pipeline reader_study --tags score`, or move the folder elsewhere before making another"
            )
        with whole(self._filepath) as beside:
            beside.write_text(data.model_dump_json(indent=1), encoding="utf-8")

    def preview(self) -> JSONPreview:
        """All but the cells."""
        return JSONPreview(self.load().model_dump_json(exclude={"cells", "secret", "seed"}))

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
