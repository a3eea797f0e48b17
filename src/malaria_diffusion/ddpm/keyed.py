"""Randomness that depends on what it is for, not on what was drawn before.

A number drawn for training sample 1,234 of seed 0 is the same after a restart, in another batch size or on
another process. Philox (Salmon et al. 2011) is counter-based, so a stream for each key costs microseconds.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """Streams that must never share numbers."""

    TORCH = 0
    ORDER = 1
    SAMPLE = 2
    VALIDATION = 3
    IMAGE = 4


def keyed_generator(seed: int, purpose: Purpose, index: int) -> np.random.Generator:
    """The stream of one thing: `index` is a sample, an epoch or an image."""
    # the generator itself counts in the first words, so streams of different indices never meet
    return np.random.Generator(np.random.Philox(key=[seed, int(purpose)], counter=[0, 0, index, 0]))


class Draw(NamedTuple):
    """Everything random about a batch of training samples.

    Attributes:
        t: int64, (B,), 0 to T - 1, uniform.
        epsilon: float32, (B, C, H, W), standard normal.
        flips: bool, (B, 2): vertical, horizontal.
    """

    t: Tensor
    epsilon: Tensor
    flips: Tensor


def draw_samples(
    seed: int, purpose: Purpose, indices: range | list[int], timesteps: int, shape: tuple[int, ...]
) -> Draw:
    """Draw timestep, noise and flips of the samples `indices`, each from its own stream."""
    epsilon = np.empty((len(indices), *shape), dtype=np.float32)
    t = np.empty(len(indices), dtype=np.int64)
    flips = np.empty((len(indices), 2), dtype=bool)
    for row, index in enumerate(indices):
        generator = keyed_generator(seed, purpose, index)
        t[row] = generator.integers(timesteps)
        flips[row] = generator.random(2) < 0.5
        generator.standard_normal(dtype=np.float32, out=epsilon[row])
    return Draw(torch.from_numpy(t), torch.from_numpy(epsilon), torch.from_numpy(flips))
