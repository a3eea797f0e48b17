"""The figure of errors counts what there is to count."""

import numpy as np
import pandas as pd

from malaria_diffusion.questions.acquisition.errors_figure import errors_figure

EXPLAINED = pd.DataFrame(
    {"factor": ["hue", "hue", "microscope"], "scope": ["people", "within person", "people"]}
    | {"auc": [0.6, 0.5, np.nan], "low": [0.5, 0.4, np.nan], "high": [0.7, 0.6, np.nan]}
)


def judged(wrong_of_person: dict[str, int], cells: int = 10) -> pd.DataFrame:
    """Cells of people, the first ones of each called something else."""
    people = [person for person in wrong_of_person for _ in range(cells)]
    wrong = np.concatenate([np.arange(cells) < number for number in wrong_of_person.values()])
    predicted = np.where(wrong, "healthy", "ill")
    return pd.DataFrame({"row": range(len(people)), "person": people, "label": "ill", "predicted": predicted})


def test_errors_are_counted_by_person_and_kind():
    predictions = judged({"P1": 0, "P2": 6, "P3": 2, "P4": 0})
    figure = errors_figure(predictions, predictions.iloc[[10, 11, 12]], EXPLAINED, "drawn cells", seed=0)
    concentration, kinds, factors = figure.axes
    found, chance = (line.get_ydata() for line in concentration.lines)
    np.testing.assert_allclose(found, [0, 0.75, 1, 1, 1])
    assert chance[0] == 0
    assert (np.diff(chance) >= 0).all()
    assert 0.3 < chance[1] < 0.75  # people alike: the worst of four has more than a quarter by chance alone
    assert [text.get_text() for text in kinds.texts] == [" 8 (3 disputed)"]
    assert [label.get_text() for label in factors.get_yticklabels()] == ["hue"]
    assert "8 errors among 40 cells (drawn cells)" in figure.get_suptitle()


def test_people_with_more_cells_err_more_by_chance():
    many, few = judged({"P1": 4}, cells=400), judged({"P2": 1, "P3": 1, "P4": 0}, cells=4)
    predictions = pd.concat([many, few.assign(row=few["row"] + 400)], ignore_index=True)
    figure = errors_figure(predictions, predictions.iloc[:0], EXPLAINED, "drawn cells", seed=0)
    found, chance = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(found, [0, 4 / 6, 5 / 6, 1, 1])
    assert chance[1] > 0.9  # 400 of 412 cells are of one person


def test_kinds_that_are_not_drawn_are_mentioned():
    predictions = judged({"P1": 0}, cells=8).assign(predicted=list("abcdefgh"))
    figure = errors_figure(predictions, predictions.iloc[:0], EXPLAINED, "drawn cells", seed=0)
    assert len(figure.axes[1].texts) == 6
    assert figure.axes[1].get_title() == "the 6 commonest of 8 kinds"


def test_a_classifier_without_errors_has_a_figure_too():
    predictions = judged({"P1": 0, "P2": 0})
    figure = errors_figure(predictions, predictions.iloc[:0], EXPLAINED.iloc[:0], "drawn cells", seed=0)
    assert "0 errors" in figure.get_suptitle()
    figure.canvas.draw()
