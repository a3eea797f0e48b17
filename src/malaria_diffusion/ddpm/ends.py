"""Where a schedule begins and ends: how much noise the first step adds, and how much signal the last one leaves."""

from __future__ import annotations

from typing import NamedTuple

from malaria_diffusion.ddpm.schedule import Schedule


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
