"""What training minimises, and the variational bound that it stands for (Ho et al. 2020, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from malaria_diffusion.diffusion.config import Loss, Prediction, Variance
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion

MIN_SNR_GAMMA = 5.0
LEVELS = 256


def training_loss(
    diffusion: GaussianDiffusion, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, epsilon: Tensor, loss: Loss
) -> Tensor:
    """Loss of each image, (B,).

    "simple": mean squared error of what is predicted; for epsilon eq. 14 without its weight. "min_snr": the same times
    min(SNR, 5) on the scale of x_0 (Hang et al. 2023, section 3.4). "bound": an unbiased estimate of the bound's terms
    that depend on the network, in bits per dimension: T times the one at t, see `bound_term`.

    Args:
        diffusion: The process.
        output: The network's answer at (x_t, t), (B, C, H, W).
        x_0: Images in [-1, 1], (B, C, H, W).
        x_t: `q_sample` of them.
        t: (B,).
        epsilon: The noise in x_t.
        loss: Which one.
    """
    if loss is Loss.BOUND:
        return diffusion.timesteps * bound_term(diffusion, output, x_0, x_t, t, Variance.BETA_TILDE)
    error = (output - diffusion.target(x_0, t, epsilon)).square().mean(dim=(1, 2, 3))
    if loss is Loss.SIMPLE:
        return error
    snr = diffusion.snr(t, x_0).flatten()
    # an error of epsilon counts SNR times, one of v SNR + 1 times as much on the scale of x_0
    per_unit = {Prediction.X_0: torch.ones_like(snr), Prediction.EPSILON: snr, Prediction.V: snr + 1}
    return error * snr.clamp(max=MIN_SNR_GAMMA) / per_unit[diffusion.prediction]


def bound_term(
    diffusion: GaussianDiffusion, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, variance: Variance
) -> Tensor:
    """L_t for each image, (B,), in bits per dimension: t from 0 here, so it is L_{t-1} of eq. 7, and L_0 where t = 0.

    For t > 0 the divergence of two Gaussians, q(x_{t-1} | x_t, x_0) from p(x_{t-1} | x_t); with beta-tilde it is eq. 14
    with its weight. For t = 0 minus the log-likelihood of 8-bit images under the discretised Gaussian of Ho et al.
    2020, eq. 13, whose variance is beta_1, or with beta-tilde, which is 0 there, beta-tilde_2.
    """
    implied = diffusion.predict_x_0(output, x_t, t)
    # the posterior's mean is linear in x_0; the difference of two means would lose digits in float32
    difference, true_variance = diffusion.q_posterior(x_0 - implied, torch.zeros_like(x_t), t)
    sigma2 = decoder_variances(diffusion, variance).to(x_t.dtype).to(x_t.device)[t].view(-1, 1, 1, 1)
    first = (t == 0).view(-1, 1, 1, 1)
    ratio = torch.where(first, 1, true_variance / sigma2)
    divergence = (difference.square() / sigma2 + (ratio - 1 - ratio.log())) / 2
    # at t = 0 the mean is the implied image; elsewhere a stand-in, for what where() leaves out must be finite too
    mean = torch.where(first, implied, x_0)
    nats = torch.where(first, -discretised_log_likelihood(x_0, mean, sigma2.sqrt()), divergence)
    return nats.mean(dim=(1, 2, 3)) / math.log(2)


def prior_term(diffusion: GaussianDiffusion, x_0: Tensor) -> Tensor:
    """L_T of eq. 7 for each image, (B,), in bits per dimension: q(x_T | x_0) from the standard normal."""
    bar = diffusion.schedule.alpha_bars[-1].to(x_0.dtype)
    # log1p and -bar instead of the variance, whose difference from 1 is lost in float32
    nats = (bar * x_0.square() - bar - torch.log1p(-bar)) / 2
    return nats.mean(dim=(1, 2, 3)) / math.log(2)


def decoder_variances(diffusion: GaussianDiffusion, variance: Variance) -> Tensor:
    """`reverse_variances` with the 0 of beta-tilde at t = 0, with which no density exists, replaced by the next one."""
    variances = diffusion.reverse_variances(variance)
    if variance is Variance.BETA_TILDE:
        variances = torch.cat([variances[1:2], variances[1:]])
    return variances


def discretised_log_likelihood(x_0: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Log of the mass that N(mean, deviation^2) gives to the grey level of x_0; the outermost levels take the tails.

    Args:
        x_0: Grey levels k of 0 to 255 as 2 k / 255 - 1.
        mean: Of the same shape.
        deviation: Broadcastable to it.
    """
    half = 1 / (LEVELS - 1)
    low = torch.where(x_0 < -1 + half, -torch.inf, (x_0 - half - mean) / deviation)
    high = torch.where(x_0 > 1 - half, torch.inf, (x_0 + half - mean) / deviation)
    return _log_normal_mass(low, high)


def _log_normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)), exact in both tails."""
    # in the upper tail both values are near 1 and their difference is lost: mirror it
    mirror = low + high > 0
    low, high = torch.where(mirror, -high, low), torch.where(mirror, -low, high)
    log_high, log_low = _log_ndtr(high), _log_ndtr(low)
    return log_high + torch.log1p(-torch.exp(log_low - log_high))


def _log_ndtr(z: Tensor) -> Tensor:
    """log Phi(z). Unlike torch's own, its gradient holds in float32 too, where theirs is off by 5% at z = -1000."""
    scaled = -z.clamp(max=-1) / math.sqrt(2)
    tail = torch.log(torch.special.erfcx(scaled) / 2) - scaled.square()
    return torch.where(z < -1, tail, torch.log(torch.special.ndtr(z.clamp(min=-1))))
