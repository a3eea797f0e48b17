"""The key: a fair choice in random order, sealed with how it will be judged."""

from collections import Counter

import numpy as np
import pytest

from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.reader.key import draw_key

from .toys import CLASSES, PARAMETERS, a_key, of_model, of_people


def test_as_many_of_each_kind_and_class_no_cell_twice_all_of_test_people():
    study, synthetic = of_people(6, 4), of_model(20)
    key = draw_key(study.part("test"), synthetic, PARAMETERS)
    assert Counter((cell.kind, cell.label) for cell in key.cells) == {
        (kind, label): 6 for kind in ("real", "synthetic") for label in CLASSES
    }
    assert len({(cell.kind, cell.row) for cell in key.cells}) == len({cell.id for cell in key.cells}) == 24
    for cell in key.cells:
        row = (study if cell.kind == "real" else synthetic).table.iloc[cell.row]
        assert row["label"] == cell.label
        assert cell.kind == "synthetic" or (row["split"], f"real {row['person']}") == ("test", cell.unit)


@pytest.mark.parametrize(("cells", "most"), [(8, 1), (12, 1), (14, 2), (24, 2), (26, 3)])
def test_nobody_has_two_cells_of_a_class_before_everybody_has_one(cells, most):
    found = Counter((cell.unit, cell.label) for cell in a_key(people=6, cells=cells).cells if cell.kind == "real")
    assert max(found.values()) == most
    assert len(found) == min(cells, 12)


def test_the_order_is_random_over_seeds_and_the_same_for_one():
    first = np.mean([[cell.kind == "real" for cell in a_key(seed=seed).cells] for seed in range(200)], axis=0)
    assert np.abs(first - 0.5).max() < 0.16  # at every place; 4.5 standard errors
    assert a_key() == a_key()
    assert {cell.id for cell in a_key().cells}.isdisjoint(cell.id for cell in a_key(seed=6).cells)


def test_whatever_is_sealed_changes_the_commitment():
    key = a_key()
    others = [
        a_key(seed=6),
        a_key(margin=0.2),
        a_key(confidence=0.9),
        key.model_copy(update={"cells": key.cells[::-1]}),
    ]
    assert len({key.commitment, *(other.commitment for other in others)}) == 5
    assert type(key).model_validate_json(key.model_dump_json()).commitment == key.commitment


@pytest.mark.parametrize(
    ("unseen", "synthetic", "changes", "said"),
    [
        (of_people(5, 1), of_model(20), {}, "asks for 6 real cells of class 'ill', found 5: .* more people"),
        (of_people(6, 4), of_model(5), {}, r"asks for 6 synthetic cells of class 'ill', found 5: .*sampling\.count"),
        (of_people(6, 4, list("abc")), of_model(9, list("abc")), {"cells": 2}, "fewer than the 3 classes"),
        (of_people(2, 1, list("abcdefghij")), of_model(9, list("abcdefghij")), {}, "10 classes: .* one digit"),
    ],
)
def test_what_cannot_be_chosen_is_said(unseen, synthetic, changes, said):
    with pytest.raises(UserError, match=said):
        draw_key(unseen.part("test"), synthetic, PARAMETERS.model_copy(update=changes))
