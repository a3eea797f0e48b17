"""The YOLOv8 classifier of the validation, trained by ultralytics straight from an array of cells.

No image file is written: ultralytics' trainer reads the uint8 array (usually a memory map) through `yolo`. Importing
this module imports neither torch nor ultralytics.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.data import ClassifierData, check_data, fingerprint
from malaria_diffusion.classifier.sandbox import private_ultralytics
from malaria_diffusion.errors import UserError
from malaria_diffusion.files import locked


def resolve_weights(weights: str | None, folder: Path) -> Path | None:
    """Find the initial weights, downloading an official file into `folder` where it is missing.

    Args:
        weights: None, the path of a file, or an official name `yolov8{n,s,m,l,x}-cls.pt`.
        folder: where official files are kept.

    Returns:
        The path of the file, or None for training from scratch.

    Raises:
        UserError: no such file, and it is not an official name or cannot be downloaded.
    """
    if weights is None:
        return None
    official = re.fullmatch(r"yolov8[nsmlx]-cls\.pt", weights) is not None
    places = [Path(weights)] + [Path(folder) / weights] * official
    for place in places:
        if place.is_file():
            return place
    reason = "it is not the name of an official file, so it is not downloaded"
    if official:
        try:
            return _download(places[-1])
        except Exception as error:  # whatever the network, a proxy or the disk made of it
            reason = f"downloading it failed ({type(error).__name__})"
    raise UserError(
        f"The classifier's initial weights {weights!r} are not there: looked for "
        f"{' and '.join(str(place.absolute()) for place in places)}, and {reason}; put the file there, give the path "
        "of one with `validation.classifier.weights`, or set it to null to train from scratch."
    )


def check_weights(path: Path | None, parameters: ClassifierParameters) -> None:
    """Find out before a long run whether initial weights can be read and fit the architecture.

    Raises:
        UserError: they are unsafe, damaged, or of another architecture.
    """
    if path is None:
        return
    with private_ultralytics():
        from ultralytics.nn.tasks import ClassificationModel

        from malaria_diffusion.classifier.checkpoint import transfer_weights

        model = ClassificationModel(f"{parameters.architecture}.yaml", verbose=False)
        transfer_weights(path, model, parameters.architecture)


def train_classifier(
    data: ClassifierData,
    parameters: ClassifierParameters,
    folder: Path,
    weights: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[Path, pd.DataFrame]:
    """Train the classifier and keep an epoch's weights, the best or the last.

    Parameters (but the device and `kept_epoch`), weights and data name the run and its own folder in `folder`. A run
    that was killed goes on from its last whole epoch when it is called again; one that is finished is returned as it
    is. The same seed on the same device gives the same history, but for a run that was resumed: ultralytics resumes
    from the averaged weights at half precision, so its history is only close.

    Args:
        data: what to learn from.
        parameters: how to train.
        folder: holds a folder for each run; nothing is written outside it.
        weights: checkpoint to start from (see `resolve_weights`); its head is used if it has as many classes.
        on_epoch: called with each row of the history as it comes; the epochs before a resume come first, at once.

    Returns:
        The checkpoint, in ultralytics' format (`YOLO(path)` reads it), and the history: a row per epoch with
        `epoch` (from 1), `train_loss` and `val_loss` (cross-entropy in nats, mean over batches), `val_accuracy`
        (0..1), `learning_rate` (at the end of the epoch) and `images_seen` (in all). Its `attrs["effective"]` says
        what the live optimizer was set to, and the device and the precision of training.

    Raises:
        UserError: arrays of the wrong type or shape, rows or labels out of range, rows in both sets, or `weights`
            that are unsafe or of another architecture; a device without the precision asked for, or with too little
            memory for the batch; the training diverged.
    """
    check_data(data)
    with private_ultralytics():
        from malaria_diffusion.classifier import yolo

        run = fingerprint(data, parameters, weights)
        with locked(Path(folder) / run):  # the same one may be asked for side by side
            return yolo.train(data, parameters, Path(folder) / run, weights, run, on_epoch)


def _download(path: Path) -> Path:
    """Fetch an official file with ultralytics' downloader, which publishes it whole or not at all."""
    with private_ultralytics():
        import requests
        from ultralytics.utils.downloads import GITHUB_ASSETS_REPO, attempt_download_asset

        # The downloader waits long for a silent network; this asks first, briefly, through any proxy.
        requests.head(f"https://github.com/{GITHUB_ASSETS_REPO}", timeout=5).raise_for_status()
        attempt_download_asset(path, retry=0)
    if not path.is_file():
        raise FileNotFoundError(path)
    return path
