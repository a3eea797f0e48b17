"""Figure 7 marks the weights that were exported, and needs no validation cells."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.figures.diffusion import loss_curve

HISTORY = pd.DataFrame(
    {
        "images_seen": [100, 200, 300],
        "loss": [0.5, 0.2, 0.1],
        "val_loss": [0.6, 0.3, 0.2],
        "kernel_distance": [2.0, 0.3, 0.4],
    }
)


def marked(history):
    """Where points stand alone in the lower panel."""
    lines = loss_curve(history, "phantom cells").axes[1].get_lines()
    return [line.get_xydata().tolist() for line in lines if len(line.get_xdata()) == 1]


def test_the_smallest_distance_is_marked():
    assert marked(HISTORY) == [[[200.0, 0.3]]]


def test_recall_has_a_scale_of_its_own_if_there_is_any():
    shown = loss_curve(HISTORY.assign(recall=[0.1, np.nan, 0.4]), "phantom cells").axes[2]
    assert shown.get_ylabel() == "recall"
    (line,) = shown.get_lines()
    np.testing.assert_equal(line.get_ydata(), [0.1, np.nan, 0.4])
    for history in (HISTORY, HISTORY.assign(recall=np.nan)):
        assert len(loss_curve(history, "phantom cells").axes) == 2


@pytest.mark.parametrize(
    ("distances", "scale"), [([2.0, 0.3, 0.4], "log"), ([-0.1, -0.2, np.nan], "linear"), ([np.nan] * 3, "linear")]
)
def test_distances_of_less_than_nothing_or_none_are_shown_as_they_are(distances, scale):
    history = HISTORY.assign(kernel_distance=distances)
    assert loss_curve(history, "phantom cells").axes[1].get_yscale() == scale
    assert len(marked(history)) == np.isfinite(distances).any()
