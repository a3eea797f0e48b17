"""Toy data and the smallest settings that exercise everything."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from malaria_diffusion.diffusion.config import (
    Clipping,
    NetworkParameters,
    Prediction,
    ProcessParameters,
    SamplingParameters,
    ScheduleKind,
    Solver,
    TrainingParameters,
    Variance,
)
from malaria_diffusion.diffusion.model import DiffusionModel, Lineage
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.training import trainer as training
from malaria_diffusion.diffusion.training.data import TrainingData
from malaria_diffusion.diffusion.training.trainer import train

from ..toys import toy_training
from .trainings import SIZE, toy_data

NAMES = ["dark", "bright"]


@pytest.fixture(scope="session")
def data() -> TrainingData:
    return toy_data()


@pytest.fixture(scope="session")
def one_step(data) -> TrainingData:
    """Of which an epoch is one step."""
    return data._replace(train_rows=data.train_rows[:4])


@pytest.fixture(scope="session")
def process() -> ProcessParameters:
    return ProcessParameters(
        timesteps=20, schedule=ScheduleKind.LINEAR, beta_start=0.001, beta_end=0.3, prediction=Prediction.V
    )


@pytest.fixture(scope="session")
def paper_process() -> ProcessParameters:
    return ProcessParameters(
        timesteps=1000, schedule=ScheduleKind.LINEAR, beta_start=1e-4, beta_end=0.02, prediction=Prediction.EPSILON
    )


@pytest.fixture(scope="session")
def network_parameters() -> NetworkParameters:
    return NetworkParameters(channels=[8, 16], layers_per_block=1, attention_sides=[4], norm_groups=4, dropout=0.0)


@pytest.fixture(scope="session")
def parameters() -> TrainingParameters:
    """8 steps an epoch."""
    return toy_training(epochs=2, learning_rate=0.003, warmup_steps=3, quality_images=8)


@pytest.fixture(scope="session")
def sampling_parameters() -> SamplingParameters:
    return SamplingParameters(
        count=1,
        seed=0,
        solver=Solver.ANCESTRAL,
        evaluations=None,
        variance=Variance.BETA_TILDE,
        clipping=Clipping.STATIC,
        guidance=1.0,
        batch_size=4,
        precision="float32",
        device="cpu",
    )


@pytest.fixture(scope="session")
def model(process, network_parameters, parameters) -> DiffusionModel:
    """A network with random weights that heeds class and timestep."""
    lineage = Lineage(
        identity="0123456789abcdef",
        epochs=2,
        images_seen=64,
        cells_fingerprint="cells",
        training_cells_fingerprint="training cells",
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
    return DiffusionModel(network.eval(), GaussianDiffusion.from_parameters(process), lineage)


@pytest.fixture(scope="session")
def half_written():
    """A stand-in for `save_file` that dies halfway through the file."""

    def save_half(tensors, path, metadata=None):
        whole = save(tensors, metadata)
        Path(path).write_bytes(whole[: len(whole) // 2])
        raise OSError("no space left on device")

    return save_half


@pytest.fixture
def run(data, process, network_parameters, parameters, monkeypatch):
    """Train in a folder, with other data or parameters if asked; returns the history.

    Images are looked at only if `quality_epochs` is given.
    """
    monkeypatch.setattr(training, "LOG_STEPS", 3)  # rows within epochs, at steps that do not divide them
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", math.inf)  # a checkpoint after every epoch

    good = {"process": process, "network": network_parameters}

    def run_in(folder, on_epoch=lambda report: None, data=data, process=None, network=None, **changes):
        training_parameters = TrainingParameters(**parameters.model_dump() | changes)
        if "quality_epochs" not in changes:
            training_parameters = training_parameters.model_copy(update={"quality_epochs": 1000})
        return train(
            data,
            ProcessParameters(**good["process"].model_dump() | (process or {})),
            NetworkParameters(**good["network"].model_dump() | (network or {})),
            training_parameters,
            folder,
            on_epoch,
        )

    return run_in


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.fixture
def whole(run, known, tmp_path_factory):
    """Folder and history of a training never interrupted; each is trained once."""

    def find(**changes):
        key = str(changes)
        if key not in known:
            folder = tmp_path_factory.mktemp("whole")
            known[key] = folder, run(folder, **changes)
        return known[key]

    return find
