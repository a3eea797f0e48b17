"""Folds by person: nobody on two sides, everybody judged once."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.classifier.cross_validation import person_folds
from malaria_diffusion.errors import UserError


def people(infected=30, healthy=15, cells=12, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {"person": f"P{number}", "label": "ill" if number < infected and rng.random() < 0.75 else "well"}
        for number in range(infected + healthy)
        for _ in range(rng.integers(1, 2 * cells))
    ]
    return pd.DataFrame(rows).assign(audit=rng.random(len(rows)) < 0.05)


@pytest.mark.parametrize("number", [2, 5])
def test_every_cell_is_judged_once_by_people_it_shares_with_nobody(number):
    table = people()
    folds = person_folds(table, number, seed=3)
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(table)))
    for fold in folds:
        sides = [set(table["person"].iloc[rows]) for rows in fold]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert set.union(*sides) == set(table["person"])
        for rows in fold:
            assert set(table["label"].iloc[rows]) == {"ill", "well"}


def test_nothing_is_trained_on_audit_cells_and_nothing_else_is_lost():
    table = people()
    for fold in person_folds(table, 4, seed=0):
        rest = np.setdiff1d(np.arange(len(table)), np.concatenate([fold.val, fold.test]))
        assert np.array_equal(fold.train, rest[~table["audit"].to_numpy()[rest]])


def test_a_seed_repeats_and_another_deals_anew():
    table = people()

    def tests_of(seed):
        return [fold.test.tolist() for fold in person_folds(table, 5, seed)]

    assert tests_of(1) == tests_of(1)
    assert tests_of(1) != tests_of(2)


def test_classes_are_dealt_evenly():
    table = people(infected=60, healthy=30)
    shares = [(table["label"].iloc[fold.test] == "ill").mean() for fold in person_folds(table, 5, seed=0)]
    assert max(shares) - min(shares) < 0.1


def test_too_few_people_are_refused_by_name():
    with pytest.raises(UserError, match=r"'ill' has \d people.*validation\.folds\.number"):
        person_folds(people(infected=6), 5, seed=0)
