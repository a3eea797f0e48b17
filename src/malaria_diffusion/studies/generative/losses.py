"""How well a network denoises the same noisy cell under each of several hypotheses about its class.

The hypotheses of a cell share x_t and its noise, so that what the noise adds to the loss is the same for all and drops
out of their differences (Li et al. 2023, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malaria_diffusion.compute.device import Compute
from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.sampling import Denoiser
from malaria_diffusion.studies.generative.rule import MOST_DRAWS, Level, Question


class PairedDenoising:
    """Squared errors of the predicted noise, paired over hypotheses.

    The noise of a cell depends on the seed, the cell's key, t and the draw only, so neither the batch size nor which
    other cells or hypotheses are asked about changes it.

    Args:
        denoiser: Its network is called as `network(x_t, t, class_labels=labels).sample`.
        compute: Where, and in which precision.
        batch_size: Network evaluations at once, about.
        seed: Of the noise.
    """

    def __init__(self, denoiser: Denoiser, compute: Compute, batch_size: int, seed: int) -> None:
        self._compute, self._seed = compute, seed
        self._network = denoiser.network.to(compute.device).to(memory_format=torch.channels_last).eval()
        self._diffusion = denoiser.diffusion.to(compute.device)
        self._batch_size = batch_size

    def losses(
        self,
        pixels: NDArray[np.uint8],
        keys: NDArray[np.int64],
        question: Question,
        asked: NDArray[np.bool_],
        labels: list[int] | None = None,
    ) -> NDArray[np.float64]:
        """Mean squared error of the predicted noise, (N, H); NaN where a hypothesis is not asked about.

        Args:
            pixels: uint8, (N, 3, S, S).
            keys: Of each cell's noise, (N,).
            question: At which noise.
            asked: (N, H), which hypotheses of each cell.
            labels: The class index that each hypothesis tells the network, (H,); None: 0, 1, 2, ...
        """
        found = np.full(asked.shape, np.nan)
        for rows, hypotheses, errors in self._errors(pixels, keys, question, asked, labels):
            found[rows, hypotheses] = errors.mean((1, 2, 3)).cpu().numpy()
        return found

    def maps(
        self, pixels: NDArray[np.uint8], keys: NDArray[np.int64], question: Question, asked: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Each pixel's part of `losses`, (N, H, S, S): they sum to it."""
        found = np.full((*asked.shape, *pixels.shape[2:]), np.nan)
        for rows, hypotheses, errors in self._errors(pixels, keys, question, asked, None):
            found[rows, hypotheses] = (errors.sum(1) / errors[0].numel()).cpu().numpy()
        return found

    @torch.inference_mode()
    def _errors(
        self,
        pixels: NDArray[np.uint8],
        keys: NDArray[np.int64],
        question: Question,
        asked: NDArray[np.bool_],
        labels: list[int] | None,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Tensor]]:
        """Rows, hypotheses and squared errors (B, 3, S, S), batch by batch."""
        device, dtype = self._compute
        told = torch.arange(asked.shape[1]) if labels is None else torch.tensor(labels)
        cells = max(1, self._batch_size // asked.shape[1])
        for start in range(0, len(pixels), cells):
            part = slice(start, start + cells)
            row, hypothesis = np.nonzero(asked[part])
            if not len(row):
                continue
            x_0 = torch.tensor(pixels[part], dtype=torch.float32, device=device) / 127.5 - 1
            epsilon = self._noise(keys[part], question, x_0.shape[1:]).to(device)
            t = torch.full((len(x_0),), question.t, device=device)
            x_t = self._diffusion.q_sample(x_0, t, epsilon)[row].contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                output = self._network(x_t, t[row], class_labels=told[hypothesis].to(device)).sample
            predicted = self._diffusion.predict_epsilon(output.float(), x_t, t[row])
            yield row + start, hypothesis, (predicted - epsilon[row]).square()

    def _noise(self, keys: NDArray[np.int64], question: Question, shape: torch.Size) -> Tensor:
        noise = np.empty((len(keys), *shape), np.float32)
        for row, key in enumerate(keys):
            index = (int(key) * MOST_DRAWS + question.draw) * self._diffusion.timesteps + question.t
            keyed_generator(self._seed, Purpose.HYPOTHESES, index).standard_normal(dtype=np.float32, out=noise[row])
        return torch.from_numpy(noise)


def levels_at(diffusion: GaussianDiffusion, log_snrs: list[float]) -> list[Level]:
    """The timestep nearest to each log signal-to-noise ratio, each once, from little noise to much."""
    log_snr = diffusion.schedule.alpha_bars.logit().cpu().numpy()
    nearest = sorted({int(np.abs(log_snr - wanted).argmin()) for wanted in log_snrs})
    return [Level(t, float(log_snr[t])) for t in nearest]
