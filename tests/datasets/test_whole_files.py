"""Kedro's own entries, too, are replaced whole or not at all."""

import errno

import pandas as pd
import pytest
from kedro.io import DatasetError
from kedro_datasets.pandas import CSVDataset

from malaria_diffusion.datasets.catalog import WholeFiles
from malaria_diffusion.sentences import sentence

TABLE = pd.DataFrame({"a": [1, 2]})


@pytest.mark.parametrize("wrapper", [None, "result.Result", "if_present.IfPresent"])
def test_a_failed_save_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch, wrapper):
    entry = {"type": "pandas.CSVDataset", "filepath": str(tmp_path / "a.csv"), "save_args": {"index": False}}
    if wrapper:
        entry = {"type": f"malaria_diffusion.datasets.{wrapper}", "dataset": entry}
    catalog = WholeFiles.from_config({"a": entry})
    catalog.save("a", TABLE)
    pd.testing.assert_frame_equal(catalog.load("a"), TABLE)

    def full(self, data):
        with self._fs.open(str(self._filepath), "w") as file:
            file.write("unfinished")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(CSVDataset, "save", full)
    with pytest.raises((DatasetError, OSError)) as raised:
        catalog.save("a", TABLE.iloc[:1])
    assert "No space left on device" in sentence(raised.value)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(catalog.load("a"), TABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
