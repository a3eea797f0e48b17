"""An entry that may be missing."""

import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError

WRAPPED = {"type": "pandas.CSVDataset", "save_args": {"index": False}}


def catalog(folder):
    entry = {
        "type": "malaria_diffusion.datasets.if_present.IfPresent",
        "dataset": WRAPPED | {"filepath": str(folder / "table.csv")},
    }
    return DataCatalog.from_config({"table": entry})


def test_nothing_until_something_is_saved(tmp_path):
    entries = catalog(tmp_path)
    assert not entries.exists("table")
    assert entries.load("table") is None
    table = pd.DataFrame({"a": [1, 2]})
    entries.save("table", table)
    assert entries.exists("table")
    pd.testing.assert_frame_equal(catalog(tmp_path).load("table"), table)
    assert entries["table"].preview(nrows=1) == {"index": [0], "columns": ["a"], "data": [[1]]}


def test_what_is_there_but_damaged_is_an_error_and_not_nothing(tmp_path):
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(DatasetError):
        catalog(tmp_path).load("table")
