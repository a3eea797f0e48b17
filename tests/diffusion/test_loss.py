"""The losses and the terms of the variational bound, against closed forms and numerical integration."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from malaria_diffusion.diffusion.config import Loss, Prediction, Variance
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.loss import (
    bound_term,
    decoder_variances,
    discretised_log_likelihood,
    prior_term,
    training_loss,
)
from malaria_diffusion.diffusion.process.schedule import LearnedSchedule, cosine_schedule, linear_schedule

T = 20
SCHEDULE = linear_schedule(T, 0.001, 0.3)
BETAS, BARS = SCHEDULE.betas.numpy(), SCHEDULE.alpha_bars.numpy()
SHAPE = (T, 3, 4, 4)
EVERY_T = torch.arange(T)
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


@pytest.fixture(params=list(Prediction))
def diffusion(request):
    return GaussianDiffusion(SCHEDULE, request.param)


@pytest.fixture(params=list(Variance))
def variance(request):
    return request.param


@pytest.fixture
def x_0():
    """One image of grey levels for each t, float64."""
    return LEVELS[torch.randint(256, SHAPE, generator=torch.Generator().manual_seed(0))]


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wrong_by(diffusion, x_0, x_t, t, error):
    """The output of a network whose implied image is off by `error`."""
    bars = diffusion.schedule.alpha_bars[t].view(-1, 1, 1, 1)
    implied = x_0 + error
    return diffusion.target(implied, t, (x_t - bars.sqrt() * implied) / (1 - bars).sqrt())


def test_the_simple_loss_is_the_mean_square_over_each_image(diffusion, x_0):
    epsilon = normal(1, *SHAPE)
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    off = torch.arange(T, dtype=torch.float64).view(-1, 1, 1, 1)
    target = diffusion.target(x_0, EVERY_T, epsilon)
    loss = training_loss(diffusion, target + off, x_0, x_t, EVERY_T, epsilon, Loss.SIMPLE)
    assert torch.allclose(loss, off.flatten() ** 2)


def test_the_same_error_of_the_image_has_the_same_min_snr_loss(diffusion, x_0):
    epsilon, error = normal(1, *SHAPE), 0.1 * normal(2, *SHAPE)
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    output = wrong_by(diffusion, x_0, x_t, EVERY_T, error)
    loss = training_loss(diffusion, output, x_0, x_t, EVERY_T, epsilon, Loss.MIN_SNR)
    weight = np.minimum(BARS / (1 - BARS), 5)
    assert 5 in weight
    assert weight.min() < 5
    assert torch.allclose(loss, torch.from_numpy(weight) * error.square().mean(dim=(1, 2, 3)))


def test_min_snr_is_the_simple_loss_with_a_weight(diffusion, x_0):
    epsilon, output = normal(1, *SHAPE), normal(2, *SHAPE)
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    simple, weighted = (
        training_loss(diffusion, output, x_0, x_t, EVERY_T, epsilon, loss) for loss in (Loss.SIMPLE, Loss.MIN_SNR)
    )
    snr = torch.from_numpy(BARS / (1 - BARS))
    weights = {
        Prediction.EPSILON: (5 / snr).clamp(max=1),
        Prediction.X_0: snr.clamp(max=5),
        Prediction.V: snr.clamp(max=5) / (snr + 1),
    }
    assert torch.allclose(weighted, weights[diffusion.prediction] * simple)


def test_the_bound_loss_is_equation_14_with_its_weight(diffusion, x_0):
    epsilon, output = normal(1, *SHAPE), normal(2, *SHAPE)
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    loss = training_loss(diffusion, output, x_0, x_t, EVERY_T, epsilon, Loss.BOUND)
    errors = (epsilon - diffusion.predict_epsilon(output, x_t, EVERY_T)).square().flatten(1).sum(1)
    for t in range(1, T):
        sigma2 = (1 - BARS[t - 1]) / (1 - BARS[t]) * BETAS[t]
        weight = BETAS[t] ** 2 / (2 * sigma2 * (1 - BETAS[t]) * (1 - BARS[t]))
        bits = weight * errors[t].item() / x_0[0].numel() / math.log(2)
        assert loss[t].item() == pytest.approx(T * bits, rel=1e-9)


@pytest.mark.parametrize("t", [1, 2, 10, T - 1])
def test_terms_are_divergences_of_gaussians(diffusion, variance, t):
    """Of q(x_{t-1} | x_t, x_0) from p(x_{t-1} | x_t), by numerical integration."""
    x_0, epsilon, output = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (0.2, 0.7, -0.3))
    step = torch.tensor([t])
    x_t = diffusion.q_sample(x_0, step, epsilon)
    beta, bar, previous = BETAS[t], BARS[t], BARS[t - 1]
    tilde = (1 - previous) / (1 - bar) * beta

    def mean(image):
        x = x_t.item()
        return (math.sqrt(previous) * beta * image + math.sqrt(1 - beta) * (1 - previous) * x) / (1 - bar)

    q = stats.norm(mean(0.2), math.sqrt(tilde))
    implied = diffusion.predict_x_0(output, x_t, step).item()
    p = stats.norm(mean(implied), math.sqrt(beta if variance is Variance.BETA else tilde))
    grid = np.linspace(*q.interval(1 - 1e-15), 100_001)
    nats = np.trapezoid(q.pdf(grid) * (q.logpdf(grid) - p.logpdf(grid)), grid)
    bits = bound_term(diffusion, output, x_0, x_t, step, variance)
    assert bits.item() == pytest.approx(nats / math.log(2), rel=1e-6)


def test_a_perfect_network_pays_nothing_with_the_posteriors_variance(diffusion, x_0):
    epsilon = normal(1, *SHAPE)
    x_t = diffusion.q_sample(x_0, EVERY_T, epsilon)
    perfect = diffusion.target(x_0, EVERY_T, epsilon)
    terms = bound_term(diffusion, perfect, x_0, x_t, EVERY_T, Variance.BETA_TILDE)
    assert terms[1:].abs().max() < 1e-12
    terms = bound_term(diffusion, perfect, x_0, x_t, EVERY_T, Variance.BETA)
    ratio = (1 - BARS[:-1]) / (1 - BARS[1:])
    assert terms[1:].numpy() == pytest.approx((ratio - 1 - np.log(ratio)) / 2 / math.log(2), rel=1e-9)


def test_the_first_term_is_the_likelihood_of_grey_levels(diffusion, variance):
    x_0 = LEVELS[[128, 0, 255]].view(3, 1, 1, 1).expand(3, 3, 4, 4)
    t = torch.zeros(3, dtype=torch.int64)
    x_t = diffusion.q_sample(x_0, t, normal(1, *x_0.shape))
    error = 0.02 * normal(2, *x_0.shape)
    bits = bound_term(diffusion, wrong_by(diffusion, x_0, x_t, t, error), x_0, x_t, t, variance)
    tilde_2 = (1 - BARS[0]) / (1 - BARS[1]) * BETAS[1]
    p = stats.norm((x_0 + error).numpy(), math.sqrt(BETAS[0] if variance is Variance.BETA else tilde_2))
    low, high = x_0.numpy() - 1 / 255, x_0.numpy() + 1 / 255
    low[1], high[2] = -np.inf, np.inf
    expected = -np.log2(p.cdf(high) - p.cdf(low)).mean(axis=(1, 2, 3))
    assert bits.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_decoder_variances_differ_from_reverse_ones_in_the_first_only(diffusion, variance):
    decoder, reverse = decoder_variances(diffusion, variance), diffusion.reverse_variances(variance)
    assert torch.equal(decoder[1:], reverse[1:])
    assert decoder[0] == (reverse[0] if variance is Variance.BETA else reverse[1])


@pytest.mark.parametrize("mean", [-1e3, -1.5, -1.0, -0.31, 0.0, 0.999, 1.0, 50.0])
@pytest.mark.parametrize("deviation", [1e-4, 1e-3, 0.01, 0.3, 1.0, 30.0])
def test_the_masses_of_all_levels_sum_to_one(mean, deviation):
    logarithms = discretised_log_likelihood(LEVELS, torch.full_like(LEVELS, mean), torch.tensor(deviation).double())
    assert logarithms.isfinite().all()
    assert (logarithms <= 0).all()
    assert logarithms.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [0.0, 1e-3, 1.0, 30.0, 1e3])
def test_likelihoods_and_gradients_are_right_far_in_the_tails(dtype, distance):
    levels = LEVELS.to(dtype)[1:-1]
    for side in (-1, 1):
        mean = (LEVELS.to(dtype) + side * distance).requires_grad_()
        deviation = torch.tensor(0.01, dtype=dtype, requires_grad=True)
        logarithms = discretised_log_likelihood(LEVELS.to(dtype), mean, deviation)
        assert logarithms.isfinite().all()
        logarithms.sum().backward()
        assert mean.grad.isfinite().all()
        assert deviation.grad.isfinite()
        if distance >= 1:  # all mass lies at the level's nearer edge
            nearer = levels + side / 255
            slope = ((nearer - mean[1:-1]) / deviation**2).detach()
            assert torch.allclose(mean.grad[1:-1], slope, rtol=1e-3, atol=0)


def test_far_tails_fall_like_a_gaussian():
    """log(Phi(b) - Phi(a)) is the density at the nearer edge over the distance, to leading order."""
    for side in (-1, 1):
        z = (10.0 - 1 / 255) / 0.01
        expected = -(z**2) / 2 - math.log(z * math.sqrt(2 * math.pi))
        level = torch.zeros(1, dtype=torch.float64)
        ours = discretised_log_likelihood(level, level + side * 10, torch.tensor(0.01, dtype=torch.float64))
        assert ours.item() == pytest.approx(expected, abs=1e-5)


def test_the_prior_term_is_the_divergence_from_the_standard_normal(diffusion, x_0):
    bar = torch.tensor(BARS[-1])
    q = Normal(bar.sqrt() * x_0, (1 - bar).sqrt())
    expected = kl_divergence(q, Normal(torch.zeros_like(x_0), 1.0)).mean(dim=(1, 2, 3)) / math.log(2)
    assert torch.allclose(prior_term(diffusion, x_0), expected)


def test_single_precision_loses_little(diffusion, variance, x_0):
    """Over the paper's 1000 steps, whose first are nearly noiseless and whose last nearly pure noise."""
    diffusion = GaussianDiffusion(linear_schedule(1000, 1e-4, 0.02), diffusion.prediction)
    t = torch.linspace(0, 999, T).long()
    x_t = diffusion.q_sample(x_0, t, normal(1, *SHAPE)).float().double()
    output = wrong_by(diffusion, x_0, x_t, t, 0.1 * normal(2, *SHAPE)).float().double()
    exact = bound_term(diffusion, output, x_0, x_t, t, variance)
    single = bound_term(diffusion, output.float(), x_0.float(), x_t.float(), t, variance)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), exact, rtol=1e-3, atol=0 if variance is Variance.BETA_TILDE else 1e-7)
    assert torch.allclose(prior_term(diffusion, x_0.float()).double(), prior_term(diffusion, x_0), rtol=1e-4, atol=1e-9)


def test_gradients_of_the_bound_are_finite_for_any_output(diffusion, x_0):
    """At the end of the cosine schedule an epsilon implies images of 10^4, in which no likelihood may overflow."""
    diffusion = GaussianDiffusion(cosine_schedule(1000), diffusion.prediction)
    t = torch.linspace(0, 999, T).long()
    x_t = diffusion.q_sample(x_0, t, normal(1, *SHAPE)).float()
    output = (30 * normal(2, *SHAPE)).float().requires_grad_()
    loss = training_loss(diffusion, output, x_0.float(), x_t, t, normal(1, *SHAPE).float(), Loss.BOUND)
    assert loss.isfinite().all()
    loss.sum().backward()
    assert output.grad.isfinite().all()
    assert output.grad.flatten(1).any(1).all()


def test_the_bound_is_differentiable_in_a_learned_schedule(diffusion, variance, x_0):
    learned = LearnedSchedule(SCHEDULE)
    diffusion = GaussianDiffusion(learned(), diffusion.prediction)
    x_t = diffusion.q_sample(x_0, EVERY_T, normal(1, *SHAPE))
    terms = bound_term(diffusion, normal(2, *SHAPE), x_0, x_t, EVERY_T, variance)
    (terms.sum() + prior_term(diffusion, x_0).mean()).backward()
    for weight in learned.parameters():
        assert weight.grad.isfinite().all()
        assert weight.grad.any()
