"""The sliced Wasserstein distance: closed forms, and scipy's on a line."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from malaria_diffusion.statistics.sliced_wasserstein import sliced_wasserstein


def test_on_a_line_it_is_scipys_for_any_weights():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 1)), rng.normal(1, 2, (20, 1))
    x_weights, y_weights = rng.poisson(1, (5, 30)).astype(float), rng.poisson(1, (5, 20)).astype(float)
    expected = [wasserstein_distance(x[:, 0], y[:, 0], *weights) for weights in zip(x_weights, y_weights, strict=True)]
    np.testing.assert_allclose(sliced_wasserstein(x, y, x_weights, y_weights), expected)


def test_of_as_many_points_it_is_the_mean_difference_of_sorted_projections():
    """And a shift by a vector is the mean length of its projections: on a sphere in 3 dimensions half of its length."""
    rng = np.random.default_rng(1)
    x, one = rng.normal(size=(50, 3)), np.ones((1, 50))
    assert sliced_wasserstein(x, x[::-1], one, one)[0] == pytest.approx(0, abs=1e-12)
    assert sliced_wasserstein(x, x + np.array([0, 2, 0]), one, one)[0] == pytest.approx(1, rel=0.1)
    assert sliced_wasserstein(x, 3 * x, one, one)[0] == pytest.approx(2 * np.abs(x).mean(), rel=0.1)


def test_a_point_of_weight_two_is_two_points():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(8, 4)), rng.normal(size=(9, 4))
    twice = np.ones((1, 8))
    twice[0, 3] = 2
    found = sliced_wasserstein(x, y, twice, np.ones((1, 9)))
    np.testing.assert_allclose(found, sliced_wasserstein(np.vstack([x, x[3]]), y, np.ones((1, 9)), np.ones((1, 9))))
