"""Where weights come from. Imports no torch."""

from __future__ import annotations

import platform
from importlib import metadata

from malaria_diffusion.config import Parameters
from malaria_diffusion.diffusion.config import NetworkParameters, ProcessParameters, TrainingParameters


class Lineage(Parameters):
    """Where weights come from.

    Attributes:
        identity: Name of the training, see `training_identity`.
        epochs: Length of the training.
        images_seen: Training images drawn in all.
        best_epoch: The epoch whose averaged weights these are; None before the training.
        ema_decay: Of which of several averages; None before the training, or if there was one.
        kernel_distance: Theirs to the validation cells.
        cells_fingerprint: Of the packed cells.
        training_cells_fingerprint: Of the names and classes of those that were trained on.
        class_names: In the order of the class indices.
        size: Side of the images in pixels.
        training_people: Everyone a training cell is of.
        training_people_hash: Fingerprint of them.
        training_cells: Every training cell, by the first digits of its file's sha256.
        phantom: Whether the training cells were drawn and not photographed.
        grey: Whether the training cells are all grey, so that generated ones must be.
        training_seconds: That the steps of the training took by the clock; None of an older model.
        software: Versions of what the model was exported with, by package; None of an older model.
        process: The diffusion process.
        network: The U-Net.
        training: How it was trained.
    """

    identity: str
    epochs: int
    images_seen: int
    best_epoch: int | None = None
    ema_decay: float | None = None
    kernel_distance: float | None = None
    cells_fingerprint: str
    training_cells_fingerprint: str
    class_names: list[str]
    size: int
    training_people: list[str]
    training_people_hash: str
    training_cells: list[str]
    phantom: bool
    grey: bool = False
    training_seconds: float | None = None
    software: dict[str, str] | None = None
    process: ProcessParameters
    network: NetworkParameters
    training: TrainingParameters

    @property
    def null_class(self) -> int | None:
        """The class that stands for none, if the network was trained to do without."""
        return len(self.class_names) if self.training.label_dropout else None

    @property
    def kind(self) -> str:
        """What the training cells were: "phantom cells" or "real cells"."""
        return "phantom cells" if self.phantom else "real cells"


def software() -> dict[str, str]:
    """Versions of this Python and of the packages that make a model."""
    packages = ("malaria_diffusion", "torch", "diffusers")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}
