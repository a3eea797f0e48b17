"""As many cells of each class, reproducibly."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.comparison import Comparison, per_class_number, spread_rows

from ..toys import toy


def table(**counts):
    return pd.DataFrame({"label": [label for label, count in counts.items() for _ in range(count)]})


@pytest.mark.parametrize(("n", "expected"), [(1000, 30), (20, 10), (21, 10)])
def test_the_smallest_class_of_any_side_decides(n, expected):
    assert per_class_number(n, table(a=50, b=30), table(a=40, b=60)) == expected


def test_a_missing_class_is_named():
    with pytest.raises(ValueError, match=r"'b'.*diffusion\.sampling\.count"):
        per_class_number(10, table(a=5, b=5), table(a=5))


def test_fewer_cells_than_classes_cannot_be_compared():
    part = pd.DataFrame({"label": ["a", "b", "c"], "audit": False})
    study = pd.concat([part.assign(split=split) for split in ("train", "val", "test")], ignore_index=True)
    cells = toy(np.zeros((9, 3, 8, 8), np.uint8), study)
    generated = toy(np.zeros((3, 3, 8, 8), np.uint8), part)
    assert len(Comparison.choose(cells, generated, 3, 0).unseen) == 3
    with pytest.raises(UserError, match=r"comparison\.n is 2, but there are 3 classes"):
        Comparison.choose(cells, generated, 2, 0)


def test_rows_are_spread_over_people():
    rows, people = np.array([4, 7, 1, 3, 9]), np.array(["a", "a", "b", "a", "c"])
    assert spread_rows(rows, people, 3).tolist() == [4, 1, 9]
    assert spread_rows(rows, people, 4).tolist() == [4, 1, 9, 7]
