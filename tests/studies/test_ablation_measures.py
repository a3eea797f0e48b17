"""Standard errors against what is known of them."""

import numpy as np
import pytest

from malaria_diffusion.studies.ablation.measures import closer_to_training, jackknife, ratio_of_medians, relative_gap


class MeanLevel:
    """In the place of the kernel distance a mean, of which the standard error is known."""

    def distance(self, images):
        return float(images.mean())


def test_the_jackknife_finds_the_error_of_a_mean():
    rng = np.random.default_rng(0)
    found = [jackknife(rng.integers(0, 256, (200, 1)), MeanLevel()) for _ in range(200)]
    values, errors = np.array(found).T
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.15)
    assert np.sqrt((errors**2).mean()) == pytest.approx(73.9 / np.sqrt(200), rel=0.1)


def test_the_ratio_of_medians_knows_that_cells_of_a_person_are_alike():
    rng = np.random.default_rng(0)
    generated = rng.normal(12, 1, 200)
    of_person = rng.normal(10, 1, 10)
    people = np.repeat([f"P{k}" for k in range(10)], 20)
    new = np.repeat(of_person, 20) + rng.normal(0, 0.1, 200)
    ratio, error = ratio_of_medians(generated, new, people)
    assert ratio == np.median(generated) / np.median(new)
    _, among_strangers = ratio_of_medians(generated, new, np.arange(200).astype(str))
    assert error > 2 * among_strangers


def test_only_copies_lie_closer_to_the_training_people():
    rng = np.random.default_rng(0)
    strangers = [rng.normal(10, 1, (200, people)) for people in (50, 12)]
    share, error = closer_to_training(*strangers)
    assert abs(share - 0.5) < 2 * error < 0.15  # although there are more training people
    share, error = closer_to_training(strangers[0] / 3, strangers[1] / 3)  # smooth images
    assert abs(share - 0.5) < 2 * error
    copies = strangers[0] - np.where(np.arange(50) < 25, 8, 0)  # of the cells of half of the training people
    share, error = closer_to_training(copies, strangers[1])
    assert share - 2 * error > 0.8


def test_a_person_in_the_middle_of_all_is_no_evidence():
    rng = np.random.default_rng(0)
    training, new = (rng.normal(10, 1, (200, people)) for people in (50, 12))
    training[:, :8] -= 5
    share, error = closer_to_training(training, new)
    assert share > 0.5
    assert share - 2 * error < 0.5


def test_the_gap_of_paired_losses_is_relative_and_its_error_that_of_the_difference():
    rng = np.random.default_rng(0)
    train = rng.exponential(1, 500)  # losses differ by their steps far more than by what is asked
    gap, error = relative_gap(train, 1.1 * train)
    assert gap == pytest.approx(0.1)
    assert error < 1e-12
    gap, error = relative_gap(train, train + rng.normal(0, 0.1, 500))
    assert abs(gap) < 3 * error
    assert error == pytest.approx(0.1 / np.sqrt(500) / train.mean(), rel=0.15)
