"""Which timestep a training sample is shown at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.compute.randomness import Purpose, keyed_generator

GOLDEN = np.uint64(11400714819323198485)  # 2^64 / golden ratio: its multiples are spread most evenly over 2^64
UNIFORM_SHARE = 0.1


class TimestepDraw:
    """Turns a uniform number into a timestep, by the inverse of the distribution function.

    Args:
        log_snr: Of every step, (T,), falling.
        deviation: See `TrainingParameters.log_snr_deviation`; None: all steps are as likely.
    """

    def __init__(self, log_snr: NDArray[np.float64], deviation: float | None = None) -> None:
        self.probabilities = np.full(len(log_snr), 1 / len(log_snr))
        if deviation is not None:
            # the density of log SNR times the stretch of it that belongs to a step
            density = np.exp(-0.5 * np.square(log_snr / deviation)) * -np.gradient(log_snr)
            self.probabilities *= UNIFORM_SHARE
            self.probabilities += (1 - UNIFORM_SHARE) * density / density.sum()
        self._cumulative = np.cumsum(self.probabilities)

    def __call__(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Timesteps, 0 to T - 1, of numbers in [0, 1)."""
        found = np.searchsorted(self._cumulative, uniform, side="right")
        return np.minimum(found, len(self.probabilities) - 1).astype(np.int64)


def stratified(seed: int, indices: Sequence[int]) -> NDArray[np.float64]:
    """A number in [0, 1) for each sample: frac(u + k / golden ratio) for sample k, u of the seed.

    The sequence of Weyl: any run of consecutive samples is spread over [0, 1) more evenly than independent numbers, and
    each of them is uniform over seeds.
    """
    start = keyed_generator(seed, Purpose.TIMESTEPS, 0).integers(2**64, dtype=np.uint64)
    places = start + np.array(indices, dtype=np.uint64) * GOLDEN  # modulo 2^64, as whole numbers wrap
    return (places >> np.uint64(11)).astype(np.float64) * 2.0**-53
