"""The forward process, its posterior and the step back, against closed forms and against diffusers."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy import stats

from malaria_diffusion.diffusion.config import Clipping, Prediction, ProcessParameters, ScheduleKind, Variance
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion, limit_x_0
from malaria_diffusion.diffusion.process.schedule import linear_schedule, schedule_from_parameters

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


@pytest.mark.parametrize("kind", ScheduleKind)
def test_parameters_give_their_process(kind):
    for prediction in Prediction:
        parameters = ProcessParameters(
            timesteps=T, schedule=kind, beta_start=0.001, beta_end=0.3, prediction=prediction
        )
        diffusion = GaussianDiffusion.from_parameters(parameters)
        assert diffusion.timesteps == T
        assert diffusion.prediction is prediction
        assert torch.equal(diffusion.schedule.betas, schedule_from_parameters(parameters).betas)


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


def test_target_gives_image_noise_and_v_back(diffusion, drawn):
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
    assert torch.equal(GaussianDiffusion(SCHEDULE, Prediction.X_0).target(x_0, EVERY_T, epsilon), x_0)
    bars = torch.from_numpy(BARS).view(-1, 1, 1, 1)
    v = bars.sqrt() * epsilon - (1 - bars).sqrt() * x_0
    assert torch.allclose(GaussianDiffusion(SCHEDULE, Prediction.V).target(x_0, EVERY_T, epsilon), v, atol=1e-12)


def test_snr_is_the_ratio_of_the_variances(diffusion, drawn):
    snr = diffusion.snr(EVERY_T, drawn[0])
    assert snr.shape == (T, 1, 1, 1)
    assert snr.flatten().tolist() == pytest.approx((BARS / (1 - BARS)).tolist(), rel=1e-12)


@pytest.mark.parametrize("variance", Variance)
def test_mean_of_a_step_is_equation_13(diffusion, drawn, variance):
    x_0, epsilon = drawn
    x_0 = 3 * x_0  # unclipped, it holds for images out of range too
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    output = diffusion.target(x_0, EVERY_T, epsilon)
    ours = diffusion.p_step(output, x_t, EVERY_T, torch.zeros_like(x_t), variance, Clipping.NONE)
    for t in range(T):
        beta = SCHEDULE.betas[t].item()
        mean = (x_t[t] - beta / math.sqrt(1 - BARS[t]) * epsilon[t]) / math.sqrt(1 - beta)
        assert torch.allclose(ours[t], mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variance", Variance)
@pytest.mark.parametrize("clipping", Clipping)
def test_noise_of_a_step_has_its_variance(diffusion, drawn, variance, clipping):
    x_t, output = drawn
    z = normal(5, *SHAPE)
    with_noise, without = (diffusion.p_step(output, x_t, EVERY_T, n, variance, clipping) for n in (z, 0 * z))
    added = with_noise - without
    for t in range(1, T):
        beta = SCHEDULE.betas[t].item()
        sigma2 = beta if variance is Variance.BETA else (1 - BARS[t - 1]) / (1 - BARS[t]) * beta
        assert torch.allclose(added[t], math.sqrt(sigma2) * z[t], rtol=0, atol=1e-12)
    assert not added[0].any()  # the last step adds none


def test_beta_tilde_is_the_smaller_variance(diffusion):
    beta, tilde = (diffusion.reverse_variances(variance) for variance in (Variance.BETA, Variance.BETA_TILDE))
    assert tilde[0] == 0
    assert ((tilde >= 0) & (tilde < beta)).all()


@pytest.mark.parametrize("clipping", Clipping)
def test_a_step_goes_by_the_limited_image(diffusion, clipping):
    t = torch.arange(1, T)
    for value in (-3.0, 3.0):
        x_0 = torch.full((T - 1, 1, 1, 1), value, dtype=torch.float64)
        epsilon = normal(6, T - 1, 1, 1, 1)
        x_t = diffusion.q_sample(x_0, t, epsilon)
        output = diffusion.target(x_0, t, epsilon)
        ours = diffusion.p_step(output, x_t, t, torch.zeros_like(x_t), clipping=clipping)
        mean, _ = diffusion.q_posterior(x_0 if clipping is Clipping.NONE else x_0.sign(), x_t, t)
        assert torch.allclose(ours, mean, rtol=0, atol=1e-12)


def test_limited_images_are_in_range_and_images_in_range_stay():
    wide = torch.linspace(0.1, 20, 30, dtype=torch.float64).view(-1, 1, 1, 1) * normal(7, 30, 3, 8, 8)
    assert limit_x_0(wide, Clipping.STATIC).abs().max() == 1
    inside = wide / wide.abs().max()
    assert torch.equal(limit_x_0(inside, Clipping.STATIC), inside)
    assert torch.equal(limit_x_0(wide, Clipping.NONE), wide)


def test_single_precision_stays_single(diffusion, drawn):
    x_0, epsilon = (values.float() for values in drawn)
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    stepped = diffusion.p_step(epsilon, x_t, EVERY_T, epsilon)
    assert x_t.dtype == stepped.dtype == torch.float32
    exact = diffusion.q_sample(drawn[0], EVERY_T, drawn[1])
    assert torch.allclose(x_t.double(), exact, rtol=0, atol=1e-6)


VARIANCES = {Variance.BETA: "fixed_large", Variance.BETA_TILDE: "fixed_small"}
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-6)]


def scheduler_of_diffusers(diffusion, variance=Variance.BETA_TILDE, clipping=Clipping.STATIC):
    scheduler = DDPMScheduler(
        num_train_timesteps=T,
        beta_start=0.001,
        beta_end=0.3,
        beta_schedule="linear",
        prediction_type=diffusion.prediction.value,
        variance_type=VARIANCES[variance],
        clip_sample=clipping is Clipping.STATIC,
    )
    assert torch.allclose(scheduler.alphas_cumprod.double(), SCHEDULE.alpha_bars, rtol=1e-6, atol=0)
    # theirs are single; with our tables only the formulas are compared
    scheduler.alphas_cumprod, scheduler.betas = SCHEDULE.alpha_bars, SCHEDULE.betas
    scheduler.one = torch.ones((), dtype=torch.float64)
    return scheduler


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_noising_equals_that_of_diffusers(diffusion, drawn, dtype, tolerance):
    x_0, epsilon = (values.to(dtype) for values in drawn)
    theirs = scheduler_of_diffusers(diffusion).add_noise(x_0, epsilon, EVERY_T)
    assert torch.allclose(diffusion.q_sample(x_0, EVERY_T, epsilon), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("variance", Variance)
@pytest.mark.parametrize("clipping", Clipping)
def test_steps_equal_those_of_diffusers(diffusion, drawn, dtype, tolerance, variance, clipping):
    scheduler = scheduler_of_diffusers(diffusion, variance, clipping)
    scale = torch.linspace(3, 0.02, T).view(-1, 1, 1, 1)  # some images leave the range and some do not
    output, x_t = ((scale * values).to(dtype) for values in drawn)
    limited = 0
    for t in reversed(range(T)):
        z = torch.randn((1, *SHAPE[1:]), generator=torch.Generator().manual_seed(t), dtype=dtype)
        theirs = scheduler.step(output[t : t + 1], t, x_t[t : t + 1], generator=torch.Generator().manual_seed(t))
        step = torch.tensor([t])
        ours = diffusion.p_step(output[t : t + 1], x_t[t : t + 1], step, z, variance, clipping)
        assert ours.dtype == theirs.prev_sample.dtype == dtype
        assert torch.allclose(ours, theirs.prev_sample, rtol=tolerance, atol=tolerance)
        implied = diffusion.predict_x_0(output[t : t + 1], x_t[t : t + 1], step)
        pixels = limit_x_0(implied, clipping)
        assert torch.allclose(pixels, theirs.pred_original_sample, rtol=tolerance, atol=tolerance)
        limited += int((implied != pixels).sum())
    assert limited < x_t.numel()
    assert (limited > 0) == (clipping is not Clipping.NONE)


def test_single_precision_tables_of_diffusers_come_close(diffusion, drawn):
    theirs = DDPMScheduler(
        num_train_timesteps=T, beta_start=0.001, beta_end=0.3, prediction_type=diffusion.prediction.value
    )
    x_t, output = (values.float() for values in drawn)
    for t in reversed(range(T)):
        z = torch.randn((1, *SHAPE[1:]), generator=torch.Generator().manual_seed(t))
        expected = theirs.step(output[t : t + 1], t, x_t[t : t + 1], generator=torch.Generator().manual_seed(t))
        ours = diffusion.p_step(output[t : t + 1], x_t[t : t + 1], torch.tensor([t]), z)
        assert torch.allclose(ours, expected.prev_sample, rtol=0, atol=1e-5)
