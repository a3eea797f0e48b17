"""The surest mistakes, and the labels that are disputed."""

import numpy as np
import pandas as pd

from malaria_diffusion.classifier.mistakes import confident_mistakes, disputed_labels


def cells(number, rng, right=0.9):
    truth = rng.integers(0, 2, number)
    probability = np.clip(np.where(truth == 1, right, 1 - right) + rng.normal(0, 0.1, number), 0.01, 0.99)
    names = np.array(["well", "ill"])
    return pd.DataFrame(
        {
            "label": names[truth],
            "predicted": names[(probability >= 0.5).astype(int)],
            "confidence": np.maximum(probability, 1 - probability),
            "row": np.arange(number),
        }
    )


def test_mistakes_are_wrong_and_the_surest_come_first():
    table = cells(500, np.random.default_rng(0), right=0.7)
    found = confident_mistakes(table, 8)
    assert len(found) == 8
    assert (found["label"] != found["predicted"]).all()
    wrong = table[table["label"] != table["predicted"]]
    assert found["confidence"].tolist() == sorted(wrong["confidence"], reverse=True)[:8]


def test_no_mistakes_give_an_empty_list():
    table = cells(50, np.random.default_rng(0)).assign(label=lambda frame: frame["predicted"])
    assert confident_mistakes(table, 5).empty
    assert disputed_labels(table).empty


def test_planted_wrong_labels_are_disputed_and_few_others():
    rng = np.random.default_rng(1)
    table = cells(2000, rng, right=0.9)
    planted = rng.choice(len(table), 40, replace=False)
    other = {"well": "ill", "ill": "well"}
    table.loc[planted, "label"] = table.loc[planted, "label"].map(other)
    found = set(disputed_labels(table)["row"])
    # about half of them lie above the mean confidence of their true class
    assert 10 <= len(found & set(planted)) <= 40
    assert not found - set(planted)


def test_a_class_of_doubtful_cells_has_a_lower_bar():
    """What counts is how sure the classifier usually is of the class it sees instead."""
    sure = pd.DataFrame({"label": "well", "predicted": "well", "confidence": [0.99] * 20})
    unsure = pd.DataFrame({"label": "ill", "predicted": "ill", "confidence": [0.6] * 20})
    wrong = pd.DataFrame({"label": ["well", "ill"], "predicted": ["ill", "well"], "confidence": [0.65, 0.9]})
    found = disputed_labels(pd.concat([sure, unsure, wrong], ignore_index=True))
    assert found["label"].tolist() == ["well"]
