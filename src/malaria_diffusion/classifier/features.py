"""The space that reported distances are measured in: what a network sees that no cell of the study has trained.

It must not be the space by which the training of the diffusion model picked its weights
(diffusion.training.quality).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.data import check_cells
from malaria_diffusion.classifier.sandbox import private_ultralytics
from malaria_diffusion.compute.config import DeviceName
from malaria_diffusion.errors import UserError

# of the random network; not that of the one that steers, diffusion.training.quality.KEY
KEY = 1912
# of the cells that initial weights see: at 32 px their last feature map is one pixel, and slight blur goes unseen
LEAST_SIDE = 64


class FeatureSpace(NamedTuple):
    """Whose features.

    Attributes:
        name: To be stated beside every distance.
        checkpoint: The network; None for the random one.
        image_size: Side in pixels that cells are resized to before `checkpoint` sees them.
    """

    name: str
    checkpoint: Path | None = None
    image_size: int = LEAST_SIDE

    def embed(self, cells: NDArray[np.uint8], device: DeviceName) -> NDArray[np.floating]:
        """The features (N, D) of cells, uint8, (N, 3, S, S), see `embed` and `random_features`.

        Raises:
            UserError: see `embed`.
        """
        if self.checkpoint is None:
            from malaria_diffusion.statistics.random_network import random_features

            check_cells(cells)
            return random_features(cells, KEY)
        return embed(self.checkpoint, cells, self.image_size, device)


def reported_space(weights: Path | None, parameters: ClassifierParameters) -> FeatureSpace:
    """The features of the classifier's initial weights if it has any, else those of a random network.

    The trained classifier will not do: it sees what tells the classes apart and little else, and it has learned from
    the members and from the cells that the floor is made of.

    Args:
        weights: See `trainer.resolve_weights`.
        parameters: Of the classifier.
    """
    if weights is None:
        return FeatureSpace(f"a fixed random convolutional network (key {KEY})")
    size = max(parameters.image_size, LEAST_SIDE)
    return FeatureSpace(f"{parameters.architecture}, initial weights {Path(weights).name}, {size} px", weights, size)


def embed(checkpoint: Path, cells: NDArray[np.uint8], image_size: int, device: DeviceName) -> NDArray[np.float32]:
    """The pooled features of cells: what enters the last, linear layer of a YOLOv8 classifier.

    Args:
        checkpoint: An official weights file or one of `classifier.train_classifier`.
        cells: uint8, (N, 3, S, S), RGB; may be a memory map, read a batch at a time.
        image_size: Side in pixels that cells are resized to.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Returns:
        (N, D), D = 1280 for every YOLOv8 classifier.

    Raises:
        UserError: `cells` of the wrong type or shape, a checkpoint that is unsafe or no YOLOv8 classifier, or features
            that are not finite.
    """
    check_cells(cells)
    with private_ultralytics():
        from malaria_diffusion.classifier import yolo

        features = yolo.embed(Path(checkpoint), cells, image_size, device)
    if not np.isfinite(features).all():
        raise UserError(f"{checkpoint} gives features that are not finite; use another file for its weights")
    return features
