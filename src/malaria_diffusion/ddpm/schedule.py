"""The variance schedule of the forward process."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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


def schedule_from_betas(betas: Tensor) -> Schedule:
    """Complete a schedule from its betas.

    Args:
        betas: Shape (T,), each in (0, 1).

    Raises:
        ValueError: a beta lies outside (0, 1).
    """
    betas = betas.to(torch.float64)
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError(
            f"betas must lie in (0, 1), found {betas.min():.3g} to {betas.max():.3g}; check beta_start and beta_end"
        )
    alphas = 1 - betas
    alpha_bars = alphas.cumprod(0)
    return Schedule(betas, alphas, alpha_bars, torch.cat([torch.ones(1, dtype=torch.float64), alpha_bars[:-1]]))


def linear_schedule(timesteps: int, beta_start: float, beta_end: float) -> Schedule:
    """Betas that grow linearly from `beta_start` to `beta_end` over T steps (Ho et al. 2020, section 4)."""
    return schedule_from_betas(torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64))
