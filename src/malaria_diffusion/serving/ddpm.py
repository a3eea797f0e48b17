"""The DDPM behind an MLflow address: how many images of which class in, images out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from numpy.typing import NDArray

from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.errors import UserError
from malaria_diffusion.files import sha256_of
from malaria_diffusion.serving.registry import Version, unpack

if TYPE_CHECKING:
    from malaria_diffusion.diffusion.model import DiffusionModel


class ServedDDPM:
    """Requests for images of a class to images; the same request always gets the same images."""

    def __init__(self, model: DiffusionModel, sampling: dict[str, Any]) -> None:
        self._model = model
        self._sampling = sampling

    def predict(self, model_input: pd.DataFrame) -> NDArray[np.uint8]:
        """Generate the images of one row after the other.

        Image k of a row is made of the noise of (seed, k), whatever the count and the other rows.

        Args:
            model_input: Columns label (name of a class), count (images of it, at least 1) and seed (at least 0).

        Returns:
            uint8, (sum of the counts, S, S, 3), RGB.

        Raises:
            UserError: a class is not known.
            pydantic.ValidationError: a count or seed is out of range, or the solver's settings contradict each other.
        """
        from malaria_diffusion.compute.distributed import Processes

        lineage = self._model.lineage
        rows = model_input[["label", "count", "seed"]].itertuples(index=False, name=None)
        planned = []  # everything is checked before anything is generated
        for label, count, seed in rows:
            if label not in lineage.class_names:
                raise UserError(f"label {label!r} is not a class of this model; its classes are {lineage.class_names}")
            parameters = SamplingParameters(count=int(count), seed=int(seed), **self._sampling)
            planned.append((np.full(int(count), lineage.class_names.index(label)), parameters))
        generated = [
            # whoever asks, asks one process
            self._model.sample(labels, parameters, progress=False, processes=Processes(0, 1))
            for labels, parameters in planned
        ]
        return np.concatenate(generated).transpose(0, 2, 3, 1)


def _load_pyfunc(path: str) -> ServedDDPM:
    """What MLflow calls to load the model."""
    from malaria_diffusion.diffusion.model import DiffusionModel

    folder, sampling = unpack(path)
    return ServedDDPM(DiffusionModel.load(folder), sampling)


def ddpm_version(folder: Path, sampling: SamplingParameters) -> Version:
    """What to register of a trained DDPM.

    Args:
        folder: As `DiffusionModel.save` leaves it.
        sampling: How a served model generates; `count` and `seed` are the request's.
    """
    lineage_file = folder / "lineage.json"
    lineage = json.loads(lineage_file.read_text())
    size = lineage["size"]
    return Version(
        suffix="ddpm",
        loader_module=__name__,
        model=folder,
        config=sampling.model_dump(mode="json", exclude={"count", "seed"}),
        signature=ModelSignature(
            Schema(
                [
                    ColSpec(DataType.string, "label"),
                    ColSpec(DataType.long, "count"),
                    ColSpec(DataType.long, "seed"),
                ]
            ),
            Schema([TensorSpec(np.dtype(np.uint8), (-1, size, size, 3))]),
        ),
        example=pd.DataFrame({"label": lineage["class_names"], "count": 1, "seed": 0}),
        images_seen=lineage["images_seen"],
        sha256=sha256_of(lineage_file),  # which names those of the weights
        tags={
            "images": "phantom cells" if lineage["phantom"] else "real cells",
            "data_fingerprint": lineage["cells_fingerprint"],
            "training_identity": lineage["identity"],
            "epoch": str(lineage["best_epoch"]),
        },
    )
