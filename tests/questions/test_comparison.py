"""What is too little to compare is told before anything is trained."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.questions.comparison import choose_cells, plan_validation
from malaria_diffusion.questions.fidelity.measure import Projection
from malaria_diffusion.statistics.comparison import FEWEST_OF_A_CLASS
from malaria_diffusion.statistics.config import ComparisonParameters

from ..toys import toy


def cells(test=FEWEST_OF_A_CLASS, train=FEWEST_OF_A_CLASS):
    """Two classes, of which the second has these numbers of cells."""
    numbers = {"train": (20, train), "val": (20, 20), "test": (20, test)}
    rows = [
        (label, split) for split, both in numbers.items() for label, n in zip("ab", both, strict=True) for _ in range(n)
    ]
    table = pd.DataFrame(rows, columns=["label", "split"]).assign(audit=False)
    return toy(np.full((len(table), 3, 8, 8), 200, np.uint8), table)


def plan(cells, n=1000):
    return plan_validation(cells, ClassifierParameters(device="cpu"), ComparisonParameters(n=n))


@pytest.mark.parametrize(("split", "whose"), [("test", "test people's"), ("train", "training people's")])
def test_a_class_that_is_nearly_empty_is_refused_by_the_plan(split, whose):
    assert plan(cells()) == ["a", "b"]
    with pytest.raises(UserError, match=f"4 {whose} cells of class 'b', expected at least 5 to compare"):
        plan(cells(**{split: 4}))


def test_a_number_to_compare_that_is_too_small_for_the_classes_is_refused_by_the_plan():
    assert plan(cells(), n=10) == ["a", "b"]
    with pytest.raises(UserError, match=r"comparison\.n is 9, but there are 2 classes, .* give 10 or more"):
        plan(cells(), n=9)


def test_too_few_synthetic_cells_are_refused_when_cells_are_chosen():
    def made(number):
        return toy(np.zeros((number + 9, 3, 8, 8), np.uint8), pd.DataFrame({"label": ["a"] * 9 + ["b"] * number}))

    chosen = choose_cells(cells(), made(5), ComparisonParameters())
    assert len(chosen.synthetic) == len(chosen.unseen) == 10
    with pytest.raises(UserError, match="4 synthetic cells of class 'b'") as raised:
        choose_cells(cells(), made(4), ComparisonParameters())
    assert raised.value.remedy is Remedy.SAMPLING


def test_the_fewest_are_those_that_a_space_can_be_fitted_for():
    features = np.random.default_rng(0).normal(size=(50, 8))
    assert Projection(features, FEWEST_OF_A_CLASS).dimensions == 1
    with pytest.raises(UserError, match="at least 5 of each"):
        Projection(features, FEWEST_OF_A_CLASS - 1)
