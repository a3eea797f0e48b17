"""What the catalog writes as text it reads back as it was."""

import pandas as pd
import pytest
import yaml
from kedro.io import AbstractDataset

from ..projects import ROOT

NAMES = ["None", "NA", "N/A", "nan", "NaN", "null", "NULL", "01", "02", "True", "1e5", "2024_05", "P. vivax", "a, b"]
COLUMNS = ["label", "group", "predicted", "person", "smear", "name"]


def tables() -> dict[str, dict]:
    """All CSV files of the catalog, those within other entries too."""
    entries = yaml.safe_load((ROOT / "conf/base/catalog.yml").read_text())
    found = {}
    for name, entry in entries.items():
        while "dataset" in entry:
            entry = entry["dataset"]
        if entry["type"] == "pandas.CSVDataset" and not name.startswith("_"):
            found[name] = entry
    return found


@pytest.mark.parametrize("name", tables())
@pytest.mark.parametrize("names", [NAMES, ["01", "02"], ["None", "nan"], ["True", "False"]], ids=str)
def test_names_that_users_choose_come_back_and_missing_numbers_are_missing(tmp_path, name, names):
    dataset = AbstractDataset.from_config(name, tables()[name] | {"filepath": str(tmp_path / "table.csv")})
    numbers = [float("nan"), *range(len(names) - 1)]
    table = pd.DataFrame(dict.fromkeys(COLUMNS, names)).assign(value=numbers)
    dataset.save(table)
    loaded = dataset.load()
    assert loaded[COLUMNS].to_dict("list") == dict.fromkeys(COLUMNS, names)
    assert loaded["value"].equals(table["value"])
