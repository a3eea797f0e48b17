"""The linear variance schedule."""

import math

import pytest
import torch

from malaria_diffusion.ddpm.schedule import linear_schedule, schedule_from_betas


@pytest.fixture(params=[(2, 0.1, 0.9), (20, 0.001, 0.3), (1000, 1e-4, 0.02), (50, 0.01, 0.01)])
def settings(request):
    return request.param


def test_betas_run_linearly_from_start_to_end(settings):
    timesteps, start, end = settings
    betas = linear_schedule(*settings).betas
    assert betas.dtype == torch.float64
    assert betas.tolist() == pytest.approx([start + (end - start) * i / (timesteps - 1) for i in range(timesteps)])


def test_alpha_bars_are_running_products_and_fall_strictly(settings):
    schedule = linear_schedule(*settings)
    product, expected = 1.0, []
    for beta in schedule.betas.tolist():
        product *= 1 - beta
        expected.append(product)
    assert schedule.alpha_bars.tolist() == pytest.approx(expected, rel=1e-12)
    assert (schedule.alpha_bars.diff() < 0).all()
    assert ((schedule.alpha_bars > 0) & (schedule.alpha_bars < 1)).all()


def test_previous_alpha_bars_are_shifted_by_one_step(settings):
    schedule = linear_schedule(*settings)
    assert schedule.alpha_bars_previous[0] == 1
    assert torch.equal(schedule.alpha_bars_previous[1:], schedule.alpha_bars[:-1])
    assert torch.allclose(schedule.alpha_bars_previous * schedule.alphas, schedule.alpha_bars, rtol=1e-12, atol=0)


def test_all_tensors_have_one_entry_for_each_step(settings):
    schedule = linear_schedule(*settings)
    for values in (schedule.betas, schedule.alphas, schedule.alpha_bars, schedule.alpha_bars_previous):
        assert values.shape == (settings[0],)
    assert schedule.timesteps == settings[0]


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_betas_outside_the_unit_interval_are_refused(bad):
    with pytest.raises(ValueError, match=r"betas must lie in \(0, 1\).*check beta_start and beta_end"):
        schedule_from_betas(torch.tensor([0.1, bad, 0.2]))


def test_the_papers_process_ends_in_almost_pure_noise():
    schedule = linear_schedule(1000, 1e-4, 0.02)
    logarithm = sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * i / 999)) for i in range(1000))
    assert schedule.alpha_bars[-1].item() == pytest.approx(math.exp(logarithm), rel=1e-9)
    assert 3.5e-5 < schedule.alpha_bars[-1].item() < 4.5e-5


def test_single_precision_betas_are_completed_in_double():
    schedule = schedule_from_betas(torch.full((1000,), 1e-4, dtype=torch.float32))
    assert schedule.alpha_bars.dtype == torch.float64
    assert schedule.alpha_bars[-1].item() == pytest.approx((1 - schedule.betas[0].item()) ** 1000, rel=1e-12)
