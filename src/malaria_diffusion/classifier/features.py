"""The space that reported distances are measured in: what a trained classifier sees in a cell.

It must not be the space by which the training of the diffusion model picked its weights
(diffusion.training.quality), and its network must never have seen a synthetic cell.
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

# of the cells that initial weights see: at 32 px their last feature map is one pixel, and slight blur goes unseen
LEAST_SIDE = 64


class FeatureSpace(NamedTuple):
    """Whose features, and of cells of what size.

    Attributes:
        name: To be stated beside every distance.
        checkpoint: The network.
        image_size: Side in pixels that cells are resized to.
    """

    name: str
    checkpoint: Path
    image_size: int

    def embed(self, cells: NDArray[np.uint8], device: DeviceName) -> NDArray[np.float32]:
        """The features of cells, see `embed`."""
        return embed(self.checkpoint, cells, self.image_size, device)


def reported_space(weights: Path | None, classifier: Path, parameters: ClassifierParameters) -> FeatureSpace:
    """The features of the classifier's initial weights if it has any, else those of the trained classifier.

    Args:
        weights: See `classifier.resolve_weights`.
        classifier: The trained checkpoint; it learned from training people's real cells alone.
        parameters: What the classifier was trained with.
    """
    if weights is None:
        name = f"the validation's {parameters.architecture} classifier, trained on real cells of training people"
        return FeatureSpace(name, Path(classifier), parameters.image_size)
    name = f"{parameters.architecture}, initial weights {Path(weights).name}"
    return FeatureSpace(name, Path(weights), max(parameters.image_size, LEAST_SIDE))


def embed(
    checkpoint: Path,
    cells: NDArray[np.uint8],
    image_size: int | None = None,
    device: DeviceName = "auto",
    batch_size: int = 256,
) -> NDArray[np.float32]:
    """The pooled features of cells: what enters the last, linear layer of a YOLOv8 classifier.

    Args:
        checkpoint: An official weights file or one of `classifier.train_classifier`.
        cells: uint8, (N, 3, S, S), RGB; may be a memory map, read a batch at a time.
        image_size: Side in pixels that cells are resized to; None for that of the checkpoint's training.
        device: `auto`, `cpu`, `cuda` or `mps`.
        batch_size: Cells at once; bounds memory, does not change the result.

    Returns:
        (N, D), D = 1280 for every YOLOv8 classifier.

    Raises:
        UserError: `cells` of the wrong type or shape, a checkpoint that is unsafe or no YOLOv8 classifier, or features
            that are not finite.
    """
    check_cells(cells)
    with private_ultralytics():
        from malaria_diffusion.classifier import yolo

        features = yolo.embed(Path(checkpoint), cells, image_size, batch_size, device)
    if not np.isfinite(features).all():
        raise UserError(f"{checkpoint} gives features that are not finite; use another file for its weights")
    return features
