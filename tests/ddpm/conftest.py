"""Toy data and the smallest settings that exercise everything."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from malaria_diffusion.ddpm.model import Lineage, Model
from malaria_diffusion.ddpm.network import build_network
from malaria_diffusion.ddpm.parameters import (
    NetworkParameters,
    Prediction,
    ProcessParameters,
    SamplingParameters,
    Solver,
    TrainingParameters,
)
from malaria_diffusion.ddpm.training import TrainingData

SIZE = 8
NAMES = ["dark", "bright"]


@pytest.fixture(scope="session")
def data() -> TrainingData:
    """48 discs of 8 px, half of them dark and half bright: 32 to train on, 8 to watch, 8 never to be looked at."""
    generator = np.random.default_rng(0)
    labels = np.arange(48) % 2
    rows, columns = np.mgrid[:SIZE, :SIZE]
    disc = (rows - 3) ** 2 + (columns - 4) ** 2 < 9
    level = np.where(labels, 220, 60)[:, None, None, None] + generator.normal(0, 10, (48, 3, 1, 1))
    cells = np.clip(disc * level, 0, 255).astype(np.uint8)
    return TrainingData(cells, labels, np.arange(0, 32), np.arange(32, 40), 2)


@pytest.fixture(scope="session")
def process() -> ProcessParameters:
    return ProcessParameters(timesteps=20, beta_start=0.001, beta_end=0.3, prediction=Prediction.V)


@pytest.fixture(scope="session")
def paper_process() -> ProcessParameters:
    return ProcessParameters(timesteps=1000, beta_start=1e-4, beta_end=0.02, prediction=Prediction.EPSILON)


@pytest.fixture(scope="session")
def network_parameters() -> NetworkParameters:
    return NetworkParameters(channels=[8, 16], layers_per_block=1, attention_sides=[4], norm_groups=4, dropout=0.0)


@pytest.fixture(scope="session")
def parameters() -> TrainingParameters:
    """8 steps an epoch."""
    return TrainingParameters(
        epochs=2,
        batch_size=4,
        optimizer="adam",
        learning_rate=0.003,
        warmup_steps=3,
        decay_epochs=None,
        gradient_clip=1.0,
        ema_decay=0.9,
        flips=True,
        precision="float32",
        device="cpu",
        seed=0,
        grid_epochs=1,
    )


@pytest.fixture(scope="session")
def sampling_parameters() -> SamplingParameters:
    return SamplingParameters(
        count=1,
        seed=0,
        solver=Solver.ANCESTRAL,
        evaluations=None,
        batch_size=4,
        precision="float32",
        device="cpu",
    )


@pytest.fixture(scope="session")
def model(process, network_parameters, parameters) -> Model:
    """A network with random weights that heeds class and timestep."""
    lineage = Lineage(
        identity="0123456789abcdef",
        epochs=2,
        images_seen=64,
        cells_fingerprint="cells",
        class_names=NAMES,
        size=SIZE,
        training_people=["C1", "C2"],
        training_people_hash="people",
        training_cells=["0123456789abcdef"],
        phantom=True,
        process=process,
        network=network_parameters,
        training=parameters,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(network_parameters, SIZE, len(NAMES))
    return Model(network.eval(), lineage)


@pytest.fixture(scope="session")
def half_written():
    """A stand-in for `save_file` that dies halfway through the file."""

    def save_half(tensors, path, metadata=None):
        whole = save(tensors, metadata)
        Path(path).write_bytes(whole[: len(whole) // 2])
        raise OSError("no space left on device")

    return save_half
