"""The classifier behind an MLflow address: images in, probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from numpy.typing import NDArray
from PIL import Image

from malaria_diffusion.cells.decode import fit
from malaria_diffusion.classifier.predictor import Predictor, load_predictor
from malaria_diffusion.files import sha256_of
from malaria_diffusion.serving.registry import Version, unpack


class ServedClassifier:
    """Images of any size to class probabilities."""

    def __init__(self, predictor: Predictor, classes: list[str], packing: dict[str, Any]) -> None:
        self._predictor = predictor
        self._classes = classes
        self._packing = packing

    def predict(self, model_input: NDArray[np.uint8]) -> pd.DataFrame:
        """Classify images, which are padded to squares and resized as those the classifier was trained on.

        Args:
            model_input: uint8, (N, H, W, 3), RGB.

        Returns:
            N rows, a column for each class; each row sums to 1.

        Raises:
            RejectedImage: the images are larger than the `common_side` that the cells were packed with.
        """
        fitted = [fit(Image.fromarray(pixels), **self._packing) for pixels in model_input]
        return pd.DataFrame(self._predictor(np.stack(fitted)), columns=self._classes)


def _load_pyfunc(path: str) -> ServedClassifier:
    """What MLflow calls to load the model."""
    checkpoint, config = unpack(path)
    predictor = load_predictor(checkpoint)
    packing = {"size": config["size"], "background": tuple(config["background"]), "common_side": config["common_side"]}
    return ServedClassifier(predictor, config["classes"], packing)


def classifier_version(checkpoint: Path, dataset_summary: dict[str, Any], epochs: int) -> Version:
    """What to register of a trained classifier.

    Args:
        checkpoint: As `train_classifier` leaves it.
        dataset_summary: Of the cells it was trained on.
        epochs: How often.
    """
    classes = dataset_summary["classes"]
    packing = {name: dataset_summary.get(name) for name in ("size", "background", "common_side")}
    return Version(
        suffix="classifier",
        loader_module=__name__,
        model=checkpoint,
        config={"classes": classes} | packing,
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
            Schema([ColSpec(DataType.float, name) for name in classes]),
        ),
        example=np.full((1, 16, 16, 3), 128, np.uint8),  # no cell of anybody
        images_seen=dataset_summary["trained_on"] * epochs,
        sha256=sha256_of(checkpoint),
        tags={"images": dataset_summary["images"], "data_fingerprint": dataset_summary["fingerprint"]},
    )
