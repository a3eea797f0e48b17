"""A key is written once."""

import io
import json

import pytest

from malaria_diffusion.datasets.sealed_key import SealedKey
from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.reader.key import Key, SealedCell

CELL = SealedCell(id="ab", kind="real", label="ill", unit="real 1", row=3)
KEY = Key(
    secret="hush", seed=77, margin=0.1, confidence=0.95, images="real cells", cells_fingerprint="f", model="m",
    classes=["ill"], cells=[CELL],
)  # fmt: skip


def test_a_key_is_kept_and_another_is_never_written_over_it(tmp_path):
    entry = SealedKey(filepath=str(tmp_path / "new" / "key.json"))
    assert not entry.exists()
    entry.save(KEY)
    entry.save(KEY)
    with pytest.raises(Exception, match="found the key of another sheet") as raised:
        entry.save(KEY.model_copy(update={"seed": 78}))
    assert isinstance(raised.value.__cause__, UserError)
    assert entry.load() == KEY


def test_a_key_is_kept_whatever_the_encoding_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "text_encoding", lambda encoding, *_: encoding or "ascii")
    entry = SealedKey(filepath=str(tmp_path / "key.json"))
    entry.save(named := KEY.model_copy(update={"classes": ["infectée"]}))
    assert entry.load() == named


def test_a_damaged_key_is_named(tmp_path):
    (tmp_path / "key.json").write_text('{"seed": 1}')
    with pytest.raises(Exception, match=r"key\.json: damaged"):
        SealedKey(filepath=str(tmp_path / "key.json")).load()


def test_kedro_viz_is_not_shown_which_cell_is_which(tmp_path):
    entry = SealedKey(filepath=str(tmp_path / "key.json"))
    entry.save(KEY)
    shown = json.loads(entry.preview())
    assert shown["margin"] == 0.1
    assert not {"cells", "secret", "seed"} & shown.keys()
