"""What the study of the number of diffusion steps trains."""

import pandas as pd
import pytest

from malaria_diffusion.diffusion.config import ProcessParameters
from malaria_diffusion.diffusion.process.schedule import schedule_ends, schedule_from_parameters
from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.ablation.values import (
    Betas,
    Value,
    check_images,
    process_of,
    values_to_list,
    values_to_train,
)
from malaria_diffusion.studies.config import AblationParameters

PROCESS = ProcessParameters(
    timesteps=1000, schedule="linear", beta_start=1e-4, beta_end=0.02, prediction="v_prediction"
)


def parameters(**changed):
    settings = {"timesteps": [50, 100, 250, 500, 1000], "reference_timesteps": 1000, "epochs": 3, "seeds": [0]}
    return AblationParameters(**settings | {"images": 200} | changed)


def ends(timesteps, betas):
    return schedule_ends(schedule_from_parameters(process_of(Value(timesteps, betas, 0), PROCESS, parameters())))


def test_each_value_is_trained_once_and_listed_for_both_scalings():
    values = values_to_train(parameters())
    assert len(values) == len(set(values)) == 9
    rows = values_to_list(parameters())
    assert len(rows) == 10
    assert {trained for _, trained in rows} == set(values)
    assert all(row[1:] == trained[1:] or row.timesteps == 1000 for row, trained in rows)
    assert len(values_to_train(parameters(seeds=[0, 1, 5]))) == 27


def test_the_order_of_trainings_leaves_no_trend_of_t_in_time():
    steps = [value.timesteps for value in values_to_train(parameters())]
    assert steps == steps[::-1]


def test_at_the_reference_the_process_is_the_one_that_is_given():
    for betas in Betas:
        assert process_of(Value(1000, betas, 0), PROCESS, parameters()) == PROCESS


@pytest.mark.parametrize(("timesteps", "left"), [(50, 0.60), (100, 0.36), (250, 0.080), (500, 0.0063), (1000, 4e-5)])
def test_short_chains_end_in_noise_only_with_scaled_betas(timesteps, left):
    assert ends(timesteps, Betas.UNSCALED).alpha_bar_last == pytest.approx(left, rel=0.02)
    assert ends(timesteps, Betas.SCALED).alpha_bar_last < 1e-4
    assert ends(timesteps, Betas.SCALED).beta_first == pytest.approx(0.1 / timesteps)
    assert ends(timesteps, Betas.SCALED).beta_last == pytest.approx(20 / timesteps)
    assert ends(timesteps, Betas.UNSCALED).log_snr_first == pytest.approx(9.21, abs=0.01)


def test_a_beta_that_cannot_be_scaled_is_refused():
    with pytest.raises(UserError, match=r"ablation\.timesteps holds 20.*take 21 steps at least"):
        process_of(Value(20, Betas.SCALED, 0), PROCESS, parameters(timesteps=[20, 1000]))
    process_of(Value(21, Betas.SCALED, 0), PROCESS, parameters(timesteps=[21, 1000]))


@pytest.mark.parametrize("timesteps", [[100], [100, 50], [100, 100], [3, 100]])
def test_steps_that_make_no_study_are_refused(timesteps):
    with pytest.raises(ValueError, match="timesteps"):
        parameters(timesteps=timesteps)


@pytest.mark.parametrize("images", [201, 400])
def test_a_floor_of_another_size_is_refused(images):
    labels = pd.Series(["a"] * 150 + ["b"] * 500)
    check_images(parameters(images=300), labels)
    with pytest.raises(UserError, match=r"a multiple of 2.*at most 300"):
        check_images(parameters(images=images), labels)
