"""The finished model: a folder in diffusers' format, with the lineage of its weights beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from malaria_diffusion.ddpm.network import build_network
from malaria_diffusion.ddpm.parameters import NetworkParameters, ProcessParameters, TrainingParameters
from malaria_diffusion.ddpm.process import GaussianDiffusion
from malaria_diffusion.ddpm.sampling import FAST_SETTINGS
from malaria_diffusion.parameters import Parameters

LINEAGE = "lineage.json"


class Lineage(Parameters):
    """Where weights come from.

    Attributes:
        identity: Name of the training, see `training_identity`.
        epochs: Length of the training.
        images_seen: Training images drawn in all.
        cells_fingerprint: Of the packed cells.
        class_names: In the order of the class indices.
        size: Side of the images in pixels.
        training_people: Everyone a training cell is of.
        training_people_hash: Fingerprint of them.
        training_cells: Every training cell, by the first digits of its file's sha256.
        phantom: Whether the training cells were drawn and not photographed.
        process: The diffusion process.
        network: The U-Net.
        training: How it was trained.
    """

    identity: str
    epochs: int
    images_seen: int
    cells_fingerprint: str
    class_names: list[str]
    size: int
    training_people: list[str]
    training_people_hash: str
    training_cells: list[str]
    phantom: bool
    process: ProcessParameters
    network: NetworkParameters
    training: TrainingParameters


class Model(NamedTuple):
    """A network ready to sample from, and where it comes from."""

    network: UNet2DModel
    lineage: Lineage

    @property
    def diffusion(self) -> GaussianDiffusion:
        """The process the network was trained for."""
        return GaussianDiffusion.from_parameters(self.lineage.process)


def model_from_weights(weights: dict[str, Tensor], lineage: Lineage) -> Model:
    """A model with given (averaged) weights."""
    network = build_network(lineage.network, lineage.size, len(lineage.class_names))
    network.load_state_dict(weights)
    return Model(network.eval(), lineage)


def save_model(model: Model, folder: Path) -> None:
    """Write the model into `folder` as unet/, scheduler/ and lineage.json."""
    model.network.save_pretrained(folder / "unet", safe_serialization=True)
    process = model.lineage.process
    scheduler = DDPMScheduler(
        num_train_timesteps=process.timesteps,
        beta_start=process.beta_start,
        beta_end=process.beta_end,
        beta_schedule="linear",
        prediction_type=process.prediction.value,
        clip_sample=True,
        timestep_spacing="linspace",
    )
    scheduler.register_to_config(**FAST_SETTINGS)  # kept by from_config of the fast solvers
    scheduler.save_pretrained(folder / "scheduler")
    (folder / LINEAGE).write_text(model.lineage.model_dump_json(indent=1))


def load_model(folder: Path) -> Model:
    """Read what `save_model` wrote.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: its lineage is damaged.
    """
    path = folder / LINEAGE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no model here; train one with `kedro run --pipeline diffusion`")
    try:
        lineage = Lineage.model_validate_json(path.read_text())
    except (ValueError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not the lineage of a model ({error})") from error
    network = UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.float32, local_files_only=True)
    return Model(network.eval(), lineage)
