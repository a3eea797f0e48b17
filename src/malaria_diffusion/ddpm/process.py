"""Forward process, its posterior, and the step back that a network makes possible (Ho et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from malaria_diffusion.ddpm.parameters import Prediction, ProcessParameters
from malaria_diffusion.ddpm.schedule import Schedule, linear_schedule


class GaussianDiffusion:
    """q(x_t | x_0), q(x_{t-1} | x_t, x_0) and p(x_{t-1} | x_t) for images in [-1, 1].

    Every method takes `t` as int64 of shape (B,), 0 to T - 1, and images as floats of shape (B, C, H, W).
    """

    def __init__(self, schedule: Schedule, prediction: Prediction = Prediction.EPSILON) -> None:
        self.schedule = schedule
        self.prediction = prediction

    @classmethod
    def from_parameters(cls, parameters: ProcessParameters) -> GaussianDiffusion:
        """The process that `parameters` describe."""
        schedule = linear_schedule(parameters.timesteps, parameters.beta_start, parameters.beta_end)
        return cls(schedule, parameters.prediction)

    @property
    def timesteps(self) -> int:
        """Number of steps T."""
        return self.schedule.timesteps

    def q_sample(self, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """x_t in one step, eq. 5: sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon."""
        signal, noise = self._signal_and_noise(t, x_0)
        return signal * x_0 + noise * epsilon

    def target(self, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """What the network should answer at x_t: epsilon, or v = sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x_0."""
        if self.prediction is Prediction.EPSILON:
            return epsilon
        signal, noise = self._signal_and_noise(t, x_0)
        return signal * epsilon - noise * x_0

    def predict_x_0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The x_0 that the network's `output` at x_t implies (eq. 5 solved for x_0)."""
        signal, noise = self._signal_and_noise(t, x_t)
        if self.prediction is Prediction.EPSILON:
            return (x_t - noise * output) / signal
        return signal * x_t - noise * output

    def predict_epsilon(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The epsilon that the network's `output` at x_t implies."""
        if self.prediction is Prediction.EPSILON:
            return output
        signal, noise = self._signal_and_noise(t, x_t)
        return noise * x_t + signal * output

    def q_posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, C, H, W) and variance (B, 1, 1, 1) of q(x_{t-1} | x_t, x_0), eq. 8 and 9."""
        betas, alphas = self.schedule.betas, self.schedule.alphas
        bars, previous = self.schedule.alpha_bars, self.schedule.alpha_bars_previous
        of_x_0 = _gather(previous.sqrt() * betas / (1 - bars), t, x_t)
        of_x_t = _gather(alphas.sqrt() * (1 - previous) / (1 - bars), t, x_t)
        variance = _gather((1 - previous) / (1 - bars) * betas, t, x_t)
        return of_x_0 * x_0 + of_x_t * x_t, variance

    def p_step(self, output: Tensor, x_t: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """One step of Algorithm 2: draw x_{t-1} given the network's `output` at x_t and standard normal `z`.

        The implied x_0 is clipped to [-1, 1], as the images are; without clipping the mean is eq. 13. The
        variance is beta-tilde of eq. 9, which is 0 at the last step (t = 0).
        """
        x_0 = self.predict_x_0(output, x_t, t).clamp(-1, 1)
        mean, variance = self.q_posterior(x_0, x_t, t)
        return mean + variance.sqrt() * z

    def loss(self, output: Tensor, x_0: Tensor, t: Tensor, epsilon: Tensor) -> Tensor:
        """Simplified objective (eq. 14 without its weight), shape (B,): mean squared error over each image."""
        return (output - self.target(x_0, t, epsilon)).square().mean(dim=(1, 2, 3))

    def _signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        bars = self.schedule.alpha_bars
        return _gather(bars.sqrt(), t, like), _gather((1 - bars).sqrt(), t, like)


def _gather(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values[t] as (B, 1, 1, 1); rounded to the images' precision only after the float64 arithmetic."""
    return values.to(like.device, torch.promote_types(like.dtype, torch.float32))[t].view(-1, 1, 1, 1)
