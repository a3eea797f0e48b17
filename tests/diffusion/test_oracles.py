"""Every sampler, given the exact denoiser of a known distribution, draws from that distribution.

Two kinds of error are told apart: that of the sample, five standard deviations, and that of finitely many steps, stated
with each test. The maps of the deterministic solvers are taken apart so that only the latter is left.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.diffusion.config import Clipping, Prediction, Solver, Variance
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.schedule import LearnedSchedule, cosine_schedule, linear_schedule
from malaria_diffusion.diffusion.sampling import Denoiser, sample_states

FAST = [Solver.DDIM, Solver.DPM_SOLVER, Solver.UNIPC]


def learned_schedule(timesteps):
    """Log-SNR from 9 down to -12, below where the fast solvers begin, at an uneven pace."""
    schedule = LearnedSchedule(linear_schedule(timesteps, 1e-4, 0.02))
    with torch.no_grad():
        schedule.first.fill_(-9)
        schedule.log_range.fill_(math.log(21))
        schedule.logits.copy_(torch.linspace(0, 6, timesteps - 1).sin() / 2)
        return schedule()


SCHEDULES = {
    "linear": linear_schedule(1000, 1e-4, 0.02),
    "cosine": cosine_schedule(1000),
    "learned": learned_schedule(1000),
}
SHORT = {
    "linear": linear_schedule(200, 5e-4, 0.1),
    "cosine": cosine_schedule(200),
    "learned": learned_schedule(200),
}


class Oracle(nn.Module):
    """The exact answer for a mixture of Gaussians, by E[x_0 | x_t] in closed form.

    `weights` (classes, K), `means` (K, D) and `covariances` (K, D, D) are of an image's D values, or of each of its
    pixels if D is 1.
    """

    def __init__(self, diffusion, weights, means, covariances):
        super().__init__()
        self.diffusion, self.calls = diffusion, 0
        self.log_weights = torch.tensor(np.array(weights)).double().log()
        self.means = torch.tensor(np.array(means)).double()
        self.variances, self.axes = torch.linalg.eigh(torch.tensor(np.array(covariances)).double())

    def forward(self, x_t, t, class_labels):
        self.calls += 1
        assert (t == t[0]).all()
        bar = self.diffusion.schedule.alpha_bars[t[0]]
        a, b = bar.sqrt(), (1 - bar).sqrt()
        x = x_t.double().reshape(len(x_t), -1, 1, self.means.shape[1])  # image, pixel or 1, component, value
        along_axes = torch.einsum("npkd,kde->npke", x - a * self.means, self.axes)
        variances = a**2 * self.variances + b**2
        log_densities = -(along_axes**2 / variances + variances.log()).sum(-1) / 2
        shares = (self.log_weights[class_labels][:, None] + log_densities).softmax(-1)
        shifts = torch.einsum("npke,kde->npkd", along_axes * a * self.variances / variances, self.axes)
        x_0 = (shares[..., None] * (self.means + shifts)).sum(-2).reshape(x_t.shape)
        epsilon = (x_t.double() - a * x_0) / b
        answers = {Prediction.X_0: x_0, Prediction.EPSILON: epsilon, Prediction.V: a * epsilon - b * x_0}
        return SimpleNamespace(sample=answers[self.diffusion.prediction])


@pytest.fixture
def walk(sampling_parameters):
    """First and last state of images drawn with an oracle, float64, (N, 3 size^2)."""

    def walk_with(oracle, labels, size, **changes):
        settings = sampling_parameters.model_copy(update=changes)
        null_class = len(oracle.log_weights) - 1
        states = sample_states(Denoiser(oracle, oracle.diffusion, size, null_class), np.asarray(labels), settings)
        assert oracle.calls >= len(states) - 1
        return [state.reshape(len(labels), -1).double().numpy() for state in (states[0], states[-1])]

    return walk_with


# The one Gaussian: 12 values of an image that hang together, with standard deviations from 0.05 to 0.4 along its axes.
AXES = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
DEVIATIONS = np.geomspace(0.05, 0.4, 12)
COVARIANCE = AXES * DEVIATIONS**2 @ AXES.T
MEAN = np.linspace(-0.3, 0.3, 12)

# largest relative error of these standard deviations; most of it in the smallest, which steps even in t average away
FEW_STEPS = {
    Solver.DDIM: {4: 0.96, 10: 0.87, 20: 0.74},
    Solver.DPM_SOLVER: {4: 0.62, 10: 0.075, 20: 0.045},
    Solver.UNIPC: {4: 0.62, 10: 0.075, 20: 0.045},
}
ALL_STEPS = 0.15


def affine_map(noise, images):
    """The matrix and offset that turn each noise into its image; so many images determine them without an error."""
    noise_and_one = np.column_stack([noise, np.ones(len(noise))])
    affine = np.linalg.lstsq(noise_and_one, images, rcond=None)[0]
    assert np.abs(noise_and_one @ affine - images).max() < 2e-4
    return affine[:-1], affine[-1]


@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_fast_solvers_carry_noise_to_the_mean_and_covariance_of_a_gaussian(walk, schedule, prediction, solver):
    every = [(SCHEDULES, evaluations, allowed) for evaluations, allowed in FEW_STEPS[solver].items()]
    for schedules, evaluations, allowed in [*every, (SHORT, 200, ALL_STEPS)]:
        oracle = Oracle(GaussianDiffusion(schedules[schedule], prediction), [[1]], [MEAN], [COVARIANCE])
        states = walk(oracle, [0] * 20, 2, solver=solver, evaluations=evaluations, clipping=Clipping.NONE)
        matrix, mean = affine_map(*states)
        along_axes = AXES.T @ matrix.T @ matrix @ AXES / np.outer(DEVIATIONS, DEVIATIONS)
        assert np.abs(np.sqrt(np.diag(along_axes)) - 1).max() < allowed
        assert np.abs(along_axes - np.diag(np.diag(along_axes))).max() < 2e-4
        assert np.abs(mean - MEAN).max() < (0.03 if evaluations == 4 else 2e-3)


def reverse_steps(schedule, variance):
    """Along each axis, from T down to 1: of x_t in the mean of x_{t-1}, of E[x_0], and the variance added."""
    betas = schedule.betas.numpy()
    bars = np.cumprod(1 - betas)
    for t in reversed(range(len(betas))):
        beta, bar, previous = betas[t], bars[t], bars[t - 1] if t else 1.0
        gain = math.sqrt(bar) * DEVIATIONS**2 / (bar * DEVIATIONS**2 + 1 - bar)
        of_x_0 = math.sqrt(previous) * beta / (1 - bar)
        slope = of_x_0 * gain + math.sqrt(1 - beta) * (1 - previous) / (1 - bar)
        added = beta if variance is Variance.BETA else (1 - previous) / (1 - bar) * beta
        yield slope, of_x_0 * (1 - gain * math.sqrt(bar)) * (MEAN @ AXES), added if t else 0.0


@pytest.mark.parametrize("variance", list(Variance))
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_ancestral_sampler_walks_the_reverse_process_of_a_gaussian(walk, schedule, prediction, variance):
    """Step for step with its own noise, along each axis by itself."""
    oracle = Oracle(GaussianDiffusion(SHORT[schedule], prediction), [[1]], [MEAN], [COVARIANCE])
    images = walk(oracle, [0] * 20, 2, variance=variance, clipping=Clipping.NONE)[1]
    streams = [keyed_generator(0, Purpose.IMAGE, k) for k in range(20)]

    def noise():
        return np.stack([stream.standard_normal(12, dtype=np.float32) for stream in streams]) @ AXES

    x_t = noise()
    for slope, offset, added in reverse_steps(SHORT[schedule], variance):
        x_t = slope * x_t + offset + (math.sqrt(added) * noise() if added else 0)
    assert np.abs(images @ AXES - x_t).max() < 1e-4


@pytest.mark.parametrize("variance", list(Variance))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_reverse_process_of_a_gaussian_ends_in_its_mean_and_covariance(schedule, variance):
    """As far as T steps can; the error falls as 1 / T."""
    for schedules, allowed in ((SHORT, 0.22), (SCHEDULES, 0.08)):
        mean, variances = np.zeros(12), np.ones(12)
        for slope, offset, added in reverse_steps(schedules[schedule], variance):
            mean, variances = slope * mean + offset, slope**2 * variances + added
        assert np.abs(mean - MEAN @ AXES).max() < 1e-3
        assert np.abs(np.sqrt(variances) / DEVIATIONS - 1).max() < allowed


# The mixture of pixels: the map of a deterministic sampler is the one that keeps the order, known in closed form.
SHARES, MEANS, SPREADS = np.array([0.3, 0.7]), np.array([-0.6, 0.3]), np.array([0.05, 0.15])
BETWEEN = -0.3

# mean distance of a pixel from where its noise belongs, and error of a component's share
QUANTILE_ERROR = {
    Solver.DDIM: {4: 0.3, 10: 0.12, 20: 0.06, 250: 0.006},
    Solver.DPM_SOLVER: {4: 0.17, 10: 0.04, 20: 0.01, 250: 0.002},
    Solver.UNIPC: {4: 0.17, 10: 0.035, 20: 0.006, 250: 0.002},
}


def pixel_oracle(diffusion):
    return Oracle(diffusion, SHARES[None], MEANS.reshape(2, 1), np.square(SPREADS).reshape(2, 1, 1))


def quantiles(noise):
    """The value that has as much of the mixture below it as there is of a standard normal below the noise."""
    levels = np.linspace(-1.5, 1.5, 30_001)
    below = (SHARES * stats.norm.cdf(levels[:, None], MEANS, SPREADS)).sum(1)
    return np.interp(stats.norm.cdf(noise), below, levels)


@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_fast_solvers_carry_noise_to_its_quantile_in_a_mixture(walk, schedule, prediction, solver):
    for evaluations, allowed in QUANTILE_ERROR[solver].items():
        if evaluations < 250 or prediction is Prediction.V:
            oracle = pixel_oracle(GaussianDiffusion(SCHEDULES[schedule], prediction))
            noise, images = walk(oracle, [0, 0], 32, solver=solver, evaluations=evaluations)
            expected = quantiles(noise)
            assert np.abs(images - expected).mean() < allowed
            assert abs((images < BETWEEN).mean() - (expected < BETWEEN).mean()) < allowed


@pytest.mark.parametrize("variance", list(Variance))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_ancestral_sampler_draws_pixels_of_a_mixture(walk, schedule, variance):
    """Exact but for the errors of T = 200: 0.01 of a share, 0.002 of a mean, and a fifth of the smallest spread."""
    oracle = pixel_oracle(GaussianDiffusion(SHORT[schedule], Prediction.V))
    pixels = walk(oracle, [0], 64, variance=variance)[1].ravel()
    low = pixels < BETWEEN
    assert abs(low.mean() - SHARES[0]) < 5 * math.sqrt(0.3 * 0.7 / len(pixels)) + 0.01
    for part, mean, spread in zip((pixels[low], pixels[~low]), MEANS, SPREADS, strict=True):
        assert abs(part.mean() - mean) < 5 * spread / math.sqrt(len(part)) + 0.002
        assert abs(part.std() / spread - 1) < 5 / math.sqrt(2 * len(part)) + 0.2


# The mixture of images: which component it is, is decided for an image as a whole.
IMAGE_MEANS = np.array([np.linspace(-0.5, 0.3, 12), np.linspace(0.3, -0.4, 12)])
IMAGE_COVARIANCES = np.array([COVARIANCE, COVARIANCE[::-1, ::-1]])

# largest error of a covariance, with the two standard deviations as its unit, at 100 evaluations (ancestral: T = 200)
COVARIANCE_ERROR = {Solver.ANCESTRAL: 0.1, Solver.DDIM: 0.1} | dict.fromkeys(
    [Solver.DPM_SOLVER, Solver.SDE_DPM_SOLVER, Solver.UNIPC], 0.02
)


@pytest.mark.parametrize("solver", list(Solver))
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_images_of_a_mixture_come_in_their_shares_with_their_means_and_covariances(walk, schedule, solver):
    ancestral = solver is Solver.ANCESTRAL
    diffusion = GaussianDiffusion((SHORT if ancestral else SCHEDULES)[schedule], Prediction.V)
    oracle = Oracle(diffusion, SHARES[None], IMAGE_MEANS, IMAGE_COVARIANCES)
    changes = {"solver": solver, "evaluations": None if ancestral else 100, "clipping": Clipping.NONE}
    images = walk(oracle, [0] * 1000, 2, **changes)[1]
    discriminant = np.linalg.solve(IMAGE_COVARIANCES.mean(0), IMAGE_MEANS[1] - IMAGE_MEANS[0])
    second = (images - IMAGE_MEANS.mean(0)) @ discriminant > 0
    assert abs(second.mean() - SHARES[1]) < 5 * math.sqrt(0.3 * 0.7 / 1000) + 0.01
    for part, mean, covariance in zip((images[~second], images[second]), IMAGE_MEANS, IMAGE_COVARIANCES, strict=True):
        variances = np.diag(covariance)
        products = np.outer(variances, variances)
        allowed = 5 * np.sqrt((products + covariance**2) / len(part))
        found = np.cov(part.T)
        assert (np.abs(part.mean(0) - mean) < 5 * np.sqrt(variances / len(part)) + 0.01).all()
        assert (np.abs(found - covariance) < allowed + COVARIANCE_ERROR[solver] * np.sqrt(products)).all()


# Classes for guidance: the first mostly the low component, the second mostly the high one, and the two without a class.
CLASS_SHARES = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])


@pytest.mark.parametrize("solver", list(Solver))
def test_guidance_moves_images_beyond_the_mean_of_their_class(walk, solver):
    ancestral = solver is Solver.ANCESTRAL
    diffusion = GaussianDiffusion((SHORT if ancestral else SCHEDULES)["linear"], Prediction.EPSILON)
    oracle = Oracle(diffusion, CLASS_SHARES, np.array([[-0.3], [0.3]]), np.full((2, 1, 1), 0.2**2))

    def means(guidance):
        changes = {"solver": solver, "evaluations": None if ancestral else 50, "guidance": guidance}
        return walk(oracle, [0, 1], 32, **changes)[1].mean(1)

    of_classes = CLASS_SHARES[:2] @ [-0.3, 0.3]
    allowed = 5 * math.sqrt((0.2**2 + 0.3**2) / 3072) + 0.01
    assert np.abs(means(0.0)).max() < allowed
    assert np.abs(means(1.0) - of_classes).max() < allowed
    assert (means(3.0) * [-1, 1] > np.abs(of_classes) + 0.1).all()
