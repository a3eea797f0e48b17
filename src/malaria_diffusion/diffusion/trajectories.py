"""A cell on its way into noise and back, for the eye."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.sampling import sample_states, to_uint8

FRAMES = 9


def forward_trajectory(
    diffusion: GaussianDiffusion, image: NDArray[np.uint8], seed: int
) -> dict[int, NDArray[np.uint8]]:
    """x_t of one image, with the same noise throughout, at steps that lie closer where more is still to be seen.

    Args:
        diffusion: The process.
        image: uint8, (3, S, S).
        seed: Of the noise.

    Returns:
        uint8 (3, S, S) by number of steps taken, 0 (the image) to T.
    """
    epsilon = keyed_generator(seed, Purpose.IMAGE, 0).standard_normal((1, *image.shape), dtype=np.float32)
    x_0 = torch.from_numpy(image[None].astype(np.float32) / 127.5 - 1)
    states = {0: np.asarray(image)}
    shares = np.linspace(0, 1, FRAMES)[1:] ** 2
    for step in np.maximum(1, (shares * diffusion.timesteps).round()).astype(int):
        x_t = diffusion.q_sample(x_0, torch.tensor([step - 1]), torch.from_numpy(epsilon))
        states[int(step)] = to_uint8(x_t)[0].numpy()
    return states


def reverse_trajectory(
    model: DiffusionModel, label: int, parameters: SamplingParameters
) -> dict[int, NDArray[np.uint8]]:
    """The states of one generated image at evenly spaced evaluations, from pure noise to the image.

    Of a model of grey images they are grey.

    Returns:
        uint8 (3, S, S) by number of network evaluations made.
    """
    states = sample_states(model.denoiser, np.array([label]), parameters)
    chosen = np.linspace(0, len(states) - 1, FRAMES).round().astype(int)
    return {int(step): to_uint8(states[step], model.lineage.grey)[0].cpu().numpy() for step in chosen}
