"""The finished model: a folder in diffusers' format, with the lineage of its weights beside them.

torch is imported where it is used, so that the class may be named without it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.diffusion.card import model_card
from malaria_diffusion.diffusion.config import Clipping, SamplingParameters, ScheduleKind
from malaria_diffusion.diffusion.lineage import Lineage
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.files import sha256_of

if TYPE_CHECKING:
    import torch

    from malaria_diffusion.compute.distributed import Processes
    from malaria_diffusion.diffusion.network.unet import PatchUNet
    from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
    from malaria_diffusion.diffusion.sampling import Denoiser

LINEAGE, CARD = "lineage.json", "README.md"
PARTS = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json")
GUIDE_PARTS = ("guide/config.json", "guide/diffusion_pytorch_model.safetensors")


@dataclass(frozen=True)
class DiffusionModel:
    """A network ready to sample from, the process it was trained for, and where it comes from.

    Attributes:
        network: Answers.
        diffusion: The process.
        lineage: Of the weights.
        guide: The network as it was early in the training, to guide by, if that was kept.
    """

    network: PatchUNet
    diffusion: GaussianDiffusion
    lineage: Lineage
    guide: PatchUNet | None = None

    @classmethod
    def from_weights(
        cls, weights: dict[str, torch.Tensor], lineage: Lineage, guide_weights: dict[str, torch.Tensor] | None = None
    ) -> Self:
        """With the (averaged) weights of a training, and those to guide by if the lineage says there are any."""
        import torch

        from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
        from malaria_diffusion.diffusion.process.schedule import LearnedSchedule, schedule_from_parameters
        from malaria_diffusion.diffusion.training.checkpoint import select

        network = _network(weights, lineage)
        schedule = schedule_from_parameters(lineage.process)
        if lineage.process.schedule is ScheduleKind.LEARNED:
            learned = LearnedSchedule(schedule)
            learned.load_state_dict(select(weights, "schedule."))
            with torch.no_grad():
                schedule = learned()
        guide = None if guide_weights is None else _network(guide_weights, lineage)
        return cls(network, GaussianDiffusion(schedule, lineage.process.prediction), lineage, guide)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: there is no model, or a file of it is missing, damaged or of another model.
        """
        import torch
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        from malaria_diffusion.diffusion.network.unet import PatchUNet
        from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
        from malaria_diffusion.diffusion.process.schedule import schedule_from_betas

        folder = Path(folder)
        path = folder / LINEAGE
        again = "put a good copy there, or export the model again"
        if not path.exists():
            raise UserError(f"{path}: no model here; train one", Remedy.TRAINING)
        try:
            stored = json.loads(path.read_text())
            expected = dict(stored.pop("sha256"))
            lineage = Lineage.model_validate(stored)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not the lineage of a model ({error}); {again}", Remedy.TRAINING) from error
        for name, found in _checksums(folder, stored).items():
            if found != expected.get(name):
                raise UserError(
                    f"{folder / name}: found sha256 {found}, {path} names {expected.get(name)}; {again}",
                    Remedy.TRAINING,
                )
        names = ["unet"] + ["guide"] * (lineage.training.guide_epochs is not None)
        networks = [
            PatchUNet.from_pretrained(folder / name, torch_dtype=torch.float32, local_files_only=True).eval()
            for name in names
        ]
        config = DDPMScheduler.load_config(folder / "scheduler", local_files_only=True)
        schedule = schedule_from_betas(torch.tensor(config["trained_betas"], dtype=torch.float64))
        return cls(networks[0], GaussianDiffusion(schedule, lineage.process.prediction), lineage, *networks[1:])

    def save(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write into `folder`: unet/, guide/ if there is one, scheduler/, lineage.json and README.md, its card.

        Args:
            folder: Made if it is not there.
            dtype: Of the stored weights, float32 unless given; bfloat16 takes half the space and is read as float32.
        """
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
        from torch import nn

        from malaria_diffusion.diffusion.sampling import solver_config

        for name, network in (("unet", self.network), ("guide", self.guide)):
            if network is not None:
                plain = network.plain()
                if dtype is not None:
                    nn.Module.to(plain, dtype)  # diffusers' own is typed as something else
                plain.save_pretrained(folder / name, safe_serialization=True)
                _forget_place(folder / name / "config.json")
        DDPMScheduler.from_config(solver_config(self.diffusion, Clipping.STATIC)).save_pretrained(folder / "scheduler")
        lineage = self.lineage.model_dump(mode="json")
        (folder / LINEAGE).write_text(json.dumps(lineage | {"sha256": _checksums(folder, lineage)}, indent=1))
        (folder / CARD).write_text(model_card(self.lineage, self.weights), encoding="utf-8")

    @property
    def weights(self) -> int:
        """How many numbers the network has learned."""
        return sum(weight.numel() for weight in self.network.parameters())

    @property
    def denoiser(self) -> Denoiser:
        """What sampling needs to know."""
        from malaria_diffusion.diffusion.sampling import Denoiser

        lineage = self.lineage
        return Denoiser(self.network, self.diffusion, lineage.size, lineage.null_class, lineage.grey, self.guide)

    def generate(self, parameters: SamplingParameters | None = None) -> Cells:
        """Synthetic cells, class after class.

        Args:
            parameters: How many of each class and how; None: as `SamplingParameters` has it.

        Returns:
            Their table has the columns index, label, seed, solver, evaluations, guidance, variance, clipping,
            model_identity, cells_fingerprint and training_people_hash.

        Raises:
            UserError: a class that the model does not know, or what its kind cannot do, is asked for.
        """
        from malaria_diffusion.diffusion.sampling import labels_to_sample

        lineage, parameters = self.lineage, parameters or SamplingParameters()
        labels = labels_to_sample(parameters.count, lineage.class_names)
        table = pd.DataFrame(
            {
                "index": np.arange(len(labels)),
                "label": [lineage.class_names[label] for label in labels],
                "seed": parameters.seed,
                "solver": parameters.solver.value,
                "evaluations": parameters.evaluations or lineage.process.timesteps,
                "guidance": parameters.guidance,
                "variance": parameters.variance.value,
                "clipping": parameters.clipping.value,
                "model_identity": lineage.identity,
                "cells_fingerprint": lineage.cells_fingerprint,
                "training_people_hash": lineage.training_people_hash,
            }
        )
        return Cells.of_model(self.sample(labels, parameters), table, lineage.model_dump(mode="json"))

    def sample(
        self,
        labels: NDArray[np.int64],
        parameters: SamplingParameters,
        progress: bool = True,
        processes: Processes | None = None,
    ) -> NDArray[np.uint8]:
        """Generate one image for each of `labels`, uint8 (N, 3, S, S): see `sampling.sample`."""
        from malaria_diffusion.diffusion.sampling import sample

        return sample(self.denoiser, labels, parameters, progress, processes)


def _network(weights: dict[str, torch.Tensor], lineage: Lineage) -> PatchUNet:
    from malaria_diffusion.diffusion.network.unet import build_network
    from malaria_diffusion.diffusion.training.checkpoint import select

    network = build_network(lineage.network, lineage.size, len(lineage.class_names), lineage.null_class is not None)
    network.load_state_dict(select(weights, "network."))
    return network.eval()


def _checksums(folder: Path, lineage: dict[str, Any]) -> dict[str, str]:
    """sha256 of the lineage without them, and of the other files; "no file" of one that is missing."""
    found = {LINEAGE: hashlib.sha256(json.dumps(lineage).encode()).hexdigest()}
    parts = PARTS + GUIDE_PARTS * (lineage["training"].get("guide_epochs") is not None)
    places = {name: folder / name for name in parts}
    return found | {name: sha256_of(place) if place.is_file() else "no file" for name, place in places.items()}


def _forget_place(path: Path) -> None:
    """Drop where diffusers read the network from, which is a path of this machine."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
