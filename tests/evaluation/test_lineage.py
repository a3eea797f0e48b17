"""No model is judged by people it has trained on."""

import pandas as pd
import pytest

from malaria_diffusion.cells.fingerprint import fingerprint_names
from malaria_diffusion.evaluation.lineage import LeakError, refuse_leaks


@pytest.fixture
def cell_table():
    rows = [(f"P{k}", split) for k, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 2)]
    table = pd.DataFrame(rows, columns=["person", "split"])
    return table.assign(name=table["person"] + ".png", label="a", audit=False)


def model_of(people, cells=()):
    lineage = {
        "identity": "m",
        "training_people": people,
        "training_cells_hash": fingerprint_names(f"a/{name}" for name in cells),
    }
    table = pd.DataFrame({"model_identity": ["m"], "training_people_hash": [fingerprint_names(people)]})
    return table, lineage


def test_a_model_of_training_people_is_accepted(cell_table):
    refuse_leaks(*model_of(["P0", "P5"]), cell_table, "person")


@pytest.mark.parametrize("leak", ["P6", "P9"])
def test_one_held_out_person_is_enough_to_refuse(cell_table, leak):
    with pytest.raises(LeakError, match=rf"1 of the 4 people.*{leak}.*kedro run --pipeline diffusion"):
        refuse_leaks(*model_of(["P0", leak]), cell_table, "person")


def test_a_lineage_of_another_model_is_refused(cell_table):
    table, _ = model_of(["P0"])
    _, lineage = model_of(["P1"])
    with pytest.raises(LeakError, match="synthetic_lineage"):
        refuse_leaks(table, lineage, cell_table, "person")


def test_split_by_cell_accepts_only_the_same_training_cells(cell_table):
    trained_on = [f"P{k}.png" for k in range(6)]
    refuse_leaks(*model_of(["P0", "P9"], trained_on), cell_table, "cell")
    with pytest.raises(LeakError, match="other cells"):
        refuse_leaks(*model_of(["P0"], [*trained_on, "P9.png"]), cell_table, "cell")
