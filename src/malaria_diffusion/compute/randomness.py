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
    BOUND = 5
    TIMESTEPS = 6
    HYPOTHESES = 7


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
        turns: bool, (B,): about the diagonal, which with the flips makes quarter turns.
        drops: float64, (B,), uniform in [0, 1): below the share of labels to drop, the label is dropped.
    """

    t: Tensor
    epsilon: Tensor
    flips: Tensor
    turns: Tensor
    drops: Tensor


def draw_samples(
    seed: int, purpose: Purpose, indices: range | list[int], timesteps: int, shape: tuple[int, ...]
) -> Draw:
    """Draw timestep, symmetry, label drop and noise of the samples `indices`, each from its own stream."""
    epsilon = np.empty((len(indices), *shape), dtype=np.float32)
    t = np.empty(len(indices), dtype=np.int64)
    uniform = np.empty((len(indices), 4))
    for row, index in enumerate(indices):
        generator = keyed_generator(seed, purpose, index)
        t[row] = generator.integers(timesteps)
        generator.random(out=uniform[row, :3])
        generator.standard_normal(dtype=np.float32, out=epsilon[row])
        uniform[row, 3] = generator.random()  # last, so that trainings of before it draw what they drew
    symmetry, drops = torch.from_numpy(uniform[:, [0, 1, 3]] < 0.5), torch.from_numpy(uniform[:, 2])
    return Draw(torch.from_numpy(t), torch.from_numpy(epsilon), symmetry[:, :2], symmetry[:, 2], drops)
