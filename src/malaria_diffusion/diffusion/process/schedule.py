"""The variance schedule of the forward process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from malaria_diffusion.diffusion.config import ProcessParameters, ScheduleKind
from malaria_diffusion.errors import UserError

COSINE_OFFSET = 0.008
COSINE_MAX_BETA = 0.999


@dataclass(frozen=True)
class Schedule:
    """Betas and what follows from them, float64, shape (T,).

    Index t of every tensor belongs to step t + 1 of the paper, whose steps count from 1 to T.

    Attributes:
        betas: Variance added at each step, eq. 3, in (0, 1).
        alphas: 1 - betas.
        alpha_bars: Running product of the alphas, eq. 5; the share of signal variance left.
        alpha_bars_previous: alpha_bars one step earlier, 1 before the first.
    """

    betas: Tensor
    alphas: Tensor
    alpha_bars: Tensor
    alpha_bars_previous: Tensor

    @property
    def timesteps(self) -> int:
        """Number of steps T."""
        return len(self.betas)

    def to(self, device: torch.device) -> Schedule:
        """The same schedule on `device`; on the CPU where that has no float64 (MPS)."""
        parts = (self.betas, self.alphas, self.alpha_bars, self.alpha_bars_previous)
        return Schedule(*(part.to(_double_device(device)) for part in parts))


def schedule_from_betas(betas: Tensor) -> Schedule:
    """Complete a schedule from its betas.

    Args:
        betas: Shape (T,), each in (0, 1).

    Raises:
        UserError: a beta lies outside (0, 1).
    """
    betas = betas.to(torch.float64)
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise UserError(
            f"betas must lie in (0, 1), found {betas.min():.3g} to {betas.max():.3g}; check beta_start and beta_end"
        )
    alphas = 1 - betas
    alpha_bars = alphas.cumprod(0)
    return Schedule(betas, alphas, alpha_bars, _previous(alpha_bars))


def linear_schedule(timesteps: int, beta_start: float, beta_end: float) -> Schedule:
    """Betas that grow linearly from `beta_start` to `beta_end` over T steps (Ho et al. 2020, section 4)."""
    return schedule_from_betas(torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64))


def cosine_schedule(timesteps: int) -> Schedule:
    """Alpha-bars that fall as a squared cosine (Nichol & Dhariwal 2021, eq. 17), no beta above 0.999."""
    u = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = ((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).cos().square()
    return schedule_from_betas((1 - f[1:] / f[:-1]).clamp(max=COSINE_MAX_BETA))


def schedule_from_parameters(parameters: ProcessParameters) -> Schedule:
    """The schedule that `parameters` describe; of a learned one, where it starts."""
    if parameters.schedule is ScheduleKind.COSINE:
        return cosine_schedule(parameters.timesteps)
    return linear_schedule(parameters.timesteps, parameters.beta_start, parameters.beta_end)


class LearnedSchedule(nn.Module):
    """A schedule whose log-SNR falls with t whatever its weights are, for training on the variational bound.

    The parameterisation is that of a variational diffusion model (Kingma et al. 2021, section 4.1 and appendix H) at T
    points instead of a network: the log-SNR at both ends, and the shares of the way between them that each step makes.

    Attributes:
        first: -log SNR at t = 0.
        log_range: Log of how much it grows until t = T - 1.
        logits: Shape (T - 1,); their softmax is each step's share.
    """

    def __init__(self, initial: Schedule) -> None:
        super().__init__()
        gamma = -initial.alpha_bars.logit()
        self.first = nn.Parameter(gamma[0].float())
        self.log_range = nn.Parameter((gamma[-1] - gamma[0]).log().float())
        self.logits = nn.Parameter(gamma.diff().log().float())

    def forward(self) -> Schedule:
        """The schedule, differentiable in the weights."""
        device = _double_device(self.first.device)
        first, log_range, logits = (w.to(device).double() for w in (self.first, self.log_range, self.logits))
        shares = logits.softmax(0).cumsum(0)
        way = torch.cat([torch.zeros_like(shares[:1]), shares])
        gamma = first + log_range.exp() * way
        log_bars = nn.functional.logsigmoid(-gamma)
        log_alphas = torch.cat([log_bars[:1], log_bars.diff()])
        alpha_bars = log_bars.exp()
        return Schedule(-log_alphas.expm1(), log_alphas.exp(), alpha_bars, _previous(alpha_bars))


def _double_device(device: torch.device) -> torch.device:
    # the differences from 1 that matter here are lost in float32
    return torch.device("cpu") if device.type == "mps" else device


def _previous(alpha_bars: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(alpha_bars[:1]), alpha_bars[:-1]])


class ScheduleEnds(NamedTuple):
    """The ends of a schedule; steps count from 1 to T, as in the paper.

    Attributes:
        timesteps: T.
        beta_first: beta_1.
        beta_last: beta_T.
        alpha_bar_last: alpha_bar_T, the share of an image's variance that is left in x_T. The reverse process starts
            from none, so this should be close to 0.
        log_snr_first: Log of the signal-to-noise ratio at step 1, nats.
        log_snr_last: The same at step T.
    """

    timesteps: int
    beta_first: float
    beta_last: float
    alpha_bar_last: float
    log_snr_first: float
    log_snr_last: float


def schedule_ends(schedule: Schedule) -> ScheduleEnds:
    """Read the ends off a schedule."""
    log_snr = schedule.alpha_bars.logit()
    return ScheduleEnds(
        schedule.timesteps,
        float(schedule.betas[0]),
        float(schedule.betas[-1]),
        float(schedule.alpha_bars[-1]),
        float(log_snr[0]),
        float(log_snr[-1]),
    )
