"""Forward process, its posterior, and the step back that a network makes possible (Ho et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from malaria_diffusion.diffusion.config import Clipping, Prediction, ProcessParameters, Variance
from malaria_diffusion.diffusion.process.schedule import Schedule, schedule_from_parameters


class GaussianDiffusion:
    """q(x_t | x_0), q(x_{t-1} | x_t, x_0) and p(x_{t-1} | x_t) for images in [-1, 1].

    Every method takes `t` as int64 of shape (B,), 0 to T - 1, and images as floats of shape (B, C, H, W), all on the
    device of the schedule.
    """

    def __init__(self, schedule: Schedule, prediction: Prediction = Prediction.EPSILON) -> None:
        self.schedule = schedule
        self.prediction = prediction

    @classmethod
    def from_parameters(cls, parameters: ProcessParameters) -> GaussianDiffusion:
        """The process that `parameters` describe; of a learned schedule, where it starts."""
        return cls(schedule_from_parameters(parameters), parameters.prediction)

    def to(self, device: torch.device) -> GaussianDiffusion:
        """The same process on `device`."""
        return GaussianDiffusion(self.schedule.to(device), self.prediction)

    @property
    def timesteps(self) -> int:
        """Number of steps T."""
        return self.schedule.timesteps

    def q_sample(self, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """x_t in one step, eq. 5: sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon."""
        signal, noise = self._signal_and_noise(t, x_0)
        return signal * x_0 + noise * epsilon

    def target(self, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """What the network should say: epsilon, x_0, or v = sqrt(alpha_bar_t) epsilon - sqrt(1 - alpha_bar_t) x_0."""
        if self.prediction is Prediction.EPSILON:
            return epsilon
        if self.prediction is Prediction.X_0:
            return x_0
        signal, noise = self._signal_and_noise(t, x_0)
        return signal * epsilon - noise * x_0

    def predict_x_0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The x_0 that the network's `output` at x_t implies (eq. 5 solved for x_0)."""
        if self.prediction is Prediction.X_0:
            return output
        signal, noise = self._signal_and_noise(t, x_t)
        if self.prediction is Prediction.EPSILON:
            return (x_t - noise * output) / signal
        return signal * x_t - noise * output

    def predict_epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The epsilon that the network's `output` at x_t implies."""
        if self.prediction is Prediction.EPSILON:
            return output
        signal, noise = self._signal_and_noise(t, x_t)
        if self.prediction is Prediction.X_0:
            return (x_t - signal * output) / noise
        return noise * x_t + signal * output

    def snr(self, t: Tensor, like: Tensor) -> Tensor:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t), (B, 1, 1, 1)."""
        bars = self.schedule.alpha_bars
        return _gather(bars / (1 - bars), t, like)

    def q_posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, C, H, W) and variance (B, 1, 1, 1) of q(x_{t-1} | x_t, x_0), eq. 8 and 9."""
        betas, alphas = self.schedule.betas, self.schedule.alphas
        bars, previous = self.schedule.alpha_bars, self.schedule.alpha_bars_previous
        of_x_0 = _gather(previous.sqrt() * betas / (1 - bars), t, x_t)
        of_x_t = _gather(alphas.sqrt() * (1 - previous) / (1 - bars), t, x_t)
        return of_x_0 * x_0 + of_x_t * x_t, _gather(self.reverse_variances(Variance.BETA_TILDE), t, x_t)

    def reverse_variances(self, variance: Variance) -> Tensor:
        """sigma_t^2 of eq. 10 for every t, (T,): beta_t, or beta-tilde_t of eq. 9, which is 0 at t = 0."""
        if variance is Variance.BETA:
            return self.schedule.betas
        bars, previous = self.schedule.alpha_bars, self.schedule.alpha_bars_previous
        return (1 - previous) / (1 - bars) * self.schedule.betas

    def p_step(
        self,
        output: Tensor,
        x_t: Tensor,
        t: Tensor,
        z: Tensor,
        variance: Variance = Variance.BETA_TILDE,
        clipping: Clipping = Clipping.STATIC,
    ) -> Tensor:
        """One step of Algorithm 2: draw x_{t-1} given the network's `output` at x_t and standard normal `z`.

        The mean is that of the posterior at the implied x_0, clipped as `clipping` says; unclipped it is eq. 13. The
        last step (t = 0) adds no noise.
        """
        x_0 = limit_x_0(self.predict_x_0(output, x_t, t), clipping)
        mean, _ = self.q_posterior(x_0, x_t, t)
        deviation = _gather(self.reverse_variances(variance).sqrt(), t, x_t)
        return mean + deviation * z * (t > 0).view(-1, 1, 1, 1)

    def _signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        bars = self.schedule.alpha_bars
        return _gather(bars.sqrt(), t, like), _gather((1 - bars).sqrt(), t, like)


def limit_x_0(x_0: Tensor, clipping: Clipping) -> Tensor:
    """Implied images, kept in [-1, 1] as `clipping` says."""
    return x_0 if clipping is Clipping.NONE else x_0.clamp(-1, 1)


def _gather(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values[t] as (B, 1, 1, 1); rounded to the images' precision only after the float64 arithmetic."""
    return values.to(torch.promote_types(like.dtype, torch.float32)).to(like.device)[t].view(-1, 1, 1, 1)
