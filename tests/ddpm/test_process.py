"""The forward process, its posterior and the step back, against closed forms and against diffusers."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy import stats

from malaria_diffusion.ddpm.parameters import Prediction
from malaria_diffusion.ddpm.process import GaussianDiffusion
from malaria_diffusion.ddpm.schedule import linear_schedule

T = 20
SCHEDULE = linear_schedule(T, 0.001, 0.3)
BARS = SCHEDULE.alpha_bars.numpy()
SHAPE = (T, 3, 4, 4)
EVERY_T = torch.arange(T)


@pytest.fixture(params=list(Prediction))
def diffusion(request):
    return GaussianDiffusion(SCHEDULE, request.param)


@pytest.fixture
def drawn():
    """x_0 in [-1, 1] and epsilon, float64, one image for each t."""
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(SHAPE, generator=generator, dtype=torch.float64) * 2 - 1
    return x_0, torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pixels(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def test_parameters_give_their_process(process):
    diffusion = GaussianDiffusion.from_parameters(process)
    assert diffusion.timesteps == process.timesteps
    assert diffusion.prediction is process.prediction
    assert torch.equal(diffusion.schedule.betas, SCHEDULE.betas)


@pytest.mark.parametrize("t", [0, 7, T - 1])
def test_moments_of_noised_images(diffusion, t):
    count, x_0 = 200_000, 0.7
    epsilon = normal(t, count, 1, 1, 1)
    x_t = diffusion.q_sample(torch.full_like(epsilon, x_0), torch.full((count,), t), epsilon)
    variance = 1 - BARS[t]
    assert abs(x_t.mean().item() - math.sqrt(BARS[t]) * x_0) < 5 * math.sqrt(variance / count)
    assert abs(x_t.var().item() / variance - 1) < 5 * math.sqrt(2 / count)


def test_one_leap_equals_many_single_steps(diffusion):
    count, x_0 = 20_000, -0.4
    start = torch.full((count, 1, 1, 1), x_0, dtype=torch.float64)
    x_t, mean, variance = start, x_0, 0.0
    for t in range(T):
        beta = SCHEDULE.betas[t].item()
        x_t = math.sqrt(1 - beta) * x_t + math.sqrt(beta) * normal(100 + t, count, 1, 1, 1)
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        step = torch.full((count,), t)
        assert diffusion.q_sample(start[:1], step[:1], pixels(0)).item() == pytest.approx(mean, rel=1e-12)
        assert diffusion.q_sample(pixels(0), step[:1], pixels(1)).item() == pytest.approx(
            math.sqrt(variance), rel=1e-12
        )
        if t in (0, 7, T - 1):
            leap = diffusion.q_sample(start, step, normal(200 + t, count, 1, 1, 1))
            assert stats.ks_2samp(x_t.ravel().numpy(), leap.ravel().numpy()).pvalue > 1e-4


@pytest.mark.parametrize("t", [1, 2, 10, T - 1])
@pytest.mark.parametrize(("x_0", "x_t"), [(0.3, 0.5), (-0.9, 1.2), (1.0, -2.0)])
def test_posterior_is_what_bayes_says(diffusion, t, x_0, x_t):
    """q(x_{t-1} | x_t, x_0) by integrating q(x_t | x_{t-1}) q(x_{t-1} | x_0) numerically."""
    beta, previous = SCHEDULE.betas[t].item(), BARS[t - 1]
    grid = np.linspace(-12, 12, 400_001)
    logarithm = -((x_t - math.sqrt(1 - beta) * grid) ** 2) / (2 * beta)
    logarithm -= (grid - math.sqrt(previous) * x_0) ** 2 / (2 * (1 - previous))
    density = np.exp(logarithm - logarithm.max())
    density /= np.trapezoid(density, grid)
    mean = np.trapezoid(grid * density, grid)
    variance = np.trapezoid((grid - mean) ** 2 * density, grid)
    ours = diffusion.q_posterior(pixels(x_0), pixels(x_t), torch.tensor([t]))
    assert ours[0].item() == pytest.approx(mean, rel=1e-6, abs=1e-9)
    assert ours[1].item() == pytest.approx(variance, rel=1e-6)


def test_posterior_of_the_first_step_is_the_image(diffusion):
    mean, variance = diffusion.q_posterior(pixels(0.25), pixels(3.0), torch.tensor([0]))
    assert mean.item() == pytest.approx(0.25, abs=1e-12)
    assert variance.item() == 0


def test_target_gives_image_and_noise_back(diffusion, drawn):
    x_0, epsilon = drawn
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    output = diffusion.target(x_0, EVERY_T, epsilon)
    assert torch.allclose(diffusion.predict_x_0(output, x_t, EVERY_T), x_0, rtol=0, atol=1e-12)
    assert torch.allclose(diffusion.predict_epsilon(output, x_t, EVERY_T), epsilon, rtol=0, atol=1e-12)


def test_any_output_explains_the_noised_image(diffusion, drawn):
    """Whatever the network says, the implied image and noise together make x_t."""
    x_t, output = drawn
    x_0 = diffusion.predict_x_0(output, x_t, EVERY_T)
    epsilon = diffusion.predict_epsilon(output, x_t, EVERY_T)
    assert torch.allclose(diffusion.q_sample(x_0, EVERY_T, epsilon), x_t, rtol=0, atol=1e-12)
    assert torch.allclose(diffusion.target(x_0, EVERY_T, epsilon), output, rtol=0, atol=1e-12)


def test_targets_are_those_of_the_literature(drawn):
    x_0, epsilon = drawn
    assert torch.equal(GaussianDiffusion(SCHEDULE, Prediction.EPSILON).target(x_0, EVERY_T, epsilon), epsilon)
    bars = torch.from_numpy(BARS).view(-1, 1, 1, 1)
    v = bars.sqrt() * epsilon - (1 - bars).sqrt() * x_0
    assert torch.allclose(GaussianDiffusion(SCHEDULE, Prediction.V).target(x_0, EVERY_T, epsilon), v, atol=1e-12)


def test_loss_is_the_mean_square_over_each_image(diffusion, drawn):
    x_0, epsilon = drawn
    target = diffusion.target(x_0, EVERY_T, epsilon)
    assert torch.equal(diffusion.loss(target, x_0, EVERY_T, epsilon), torch.zeros(T, dtype=torch.float64))
    off = torch.arange(T, dtype=torch.float64).view(-1, 1, 1, 1)
    assert torch.allclose(diffusion.loss(target + off, x_0, EVERY_T, epsilon), off.flatten() ** 2)


def test_mean_of_a_step_is_equation_13(diffusion, drawn):
    x_0, epsilon = drawn
    x_0 = 0.9 * x_0  # well inside: clipping must not act
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    ours = diffusion.p_step(diffusion.target(x_0, EVERY_T, epsilon), x_t, EVERY_T, torch.zeros_like(x_t))
    for t in range(T):
        beta = SCHEDULE.betas[t].item()
        mean = (x_t[t] - beta / math.sqrt(1 - BARS[t]) * epsilon[t]) / math.sqrt(1 - beta)
        assert torch.allclose(ours[t], mean, rtol=0, atol=1e-12)


def test_noise_of_a_step_has_the_posteriors_variance(diffusion, drawn):
    x_t, output = drawn
    z = normal(5, *SHAPE)
    added = diffusion.p_step(output, x_t, EVERY_T, z) - diffusion.p_step(output, x_t, EVERY_T, torch.zeros_like(z))
    for t in range(1, T):
        tilde = (1 - BARS[t - 1]) / (1 - BARS[t]) * SCHEDULE.betas[t].item()
        assert torch.allclose(added[t], math.sqrt(tilde) * z[t], rtol=0, atol=1e-12)
    assert not added[0].any()  # the last step adds none


def test_implied_images_out_of_range_are_clipped(diffusion):
    t = torch.arange(1, T)
    for value in (-3.0, 3.0):
        x_0 = torch.full((T - 1, 1, 1, 1), value, dtype=torch.float64)
        epsilon = normal(6, T - 1, 1, 1, 1)
        x_t = diffusion.q_sample(x_0, t, epsilon)
        ours = diffusion.p_step(diffusion.target(x_0, t, epsilon), x_t, t, torch.zeros_like(x_t))
        mean, _ = diffusion.q_posterior(x_0.sign(), x_t, t)
        unclipped, _ = diffusion.q_posterior(x_0, x_t, t)
        assert torch.allclose(ours, mean, rtol=0, atol=1e-12)
        assert (ours - unclipped).abs().min() > 1e-3


def test_single_precision_stays_single(diffusion, drawn):
    x_0, epsilon = (values.float() for values in drawn)
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    stepped = diffusion.p_step(epsilon, x_t, EVERY_T, epsilon)
    assert x_t.dtype == stepped.dtype == torch.float32
    exact = diffusion.q_sample(drawn[0], EVERY_T, drawn[1])
    assert torch.allclose(x_t.double(), exact, rtol=0, atol=1e-6)


def scheduler_of_diffusers(diffusion, dtype):
    scheduler = DDPMScheduler(
        num_train_timesteps=T,
        beta_start=0.001,
        beta_end=0.3,
        beta_schedule="linear",
        prediction_type=diffusion.prediction.value,
        clip_sample=True,
    )
    assert torch.allclose(scheduler.alphas_cumprod.double(), SCHEDULE.alpha_bars, rtol=1e-6, atol=0)
    if dtype == torch.float64:  # theirs are single; with our tables only the formulas are compared
        scheduler.alphas_cumprod, scheduler.betas = SCHEDULE.alpha_bars, SCHEDULE.betas
        scheduler.one = torch.ones((), dtype=dtype)
    return scheduler


PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_noising_equals_that_of_diffusers(diffusion, drawn, dtype, tolerance):
    x_0, epsilon = (values.to(dtype) for values in drawn)
    theirs = scheduler_of_diffusers(diffusion, dtype).add_noise(x_0, epsilon, EVERY_T)
    assert torch.allclose(diffusion.q_sample(x_0, EVERY_T, epsilon), theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_steps_equal_those_of_diffusers(diffusion, drawn, dtype, tolerance):
    scheduler = scheduler_of_diffusers(diffusion, dtype)
    x_t, output = (values.to(dtype) for values in drawn)
    clipped = 0
    for t in reversed(range(T)):
        z = torch.randn((1, *SHAPE[1:]), generator=torch.Generator().manual_seed(t), dtype=dtype)
        theirs = scheduler.step(output[t : t + 1], t, x_t[t : t + 1], generator=torch.Generator().manual_seed(t))
        step = torch.tensor([t])
        ours = diffusion.p_step(output[t : t + 1], x_t[t : t + 1], step, z)
        assert torch.allclose(ours, theirs.prev_sample, rtol=0, atol=tolerance)
        implied = diffusion.predict_x_0(output[t : t + 1], x_t[t : t + 1], step)
        assert torch.allclose(implied.clamp(-1, 1), theirs.pred_original_sample, rtol=0, atol=tolerance)
        clipped += int((implied.abs() > 1).sum())
    assert 0 < clipped < x_t.numel()  # both branches were compared
