"""The YOLOv8 classifier of the validation, trained by ultralytics straight from an array of cells.

No image file is written: ultralytics' trainer reads the uint8 array (usually a memory map) through
`yolo_trainer`. Everything ultralytics would do on its own is off: experiment trackers, usage statistics, downloads,
package installs, plots, random crops. Importing this module imports neither torch nor ultralytics.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.compute.config import DeviceName
from malaria_diffusion.errors import UserError

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_TRACKERS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
_HASHED_AT_ONCE = 4096  # cells; bounds the memory the fingerprint of a memory map takes


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
    with _private_ultralytics():
        from ultralytics.nn.tasks import ClassificationModel

        from malaria_diffusion.classifier.checkpoint import transfer_weights

        model = ClassificationModel(f"{parameters.architecture}.yaml", verbose=False)
        transfer_weights(path, model, parameters.architecture)


def train_classifier(
    cells: NDArray[np.uint8],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    train_rows: NDArray[np.integer],
    val_rows: NDArray[np.integer],
    parameters: ClassifierParameters,
    folder: Path,
    weights: Path | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> tuple[Path, pd.DataFrame]:
    """Train the classifier and keep an epoch's weights, the best or the last.

    Parameters (but the device and `kept_epoch`), weights and data name the run and its own folder in `folder`. A run
    that was killed goes on from its last whole epoch when it is called again; one that is finished is returned as it
    is. The same seed on the same device gives the same history, but for a run that was resumed: ultralytics resumes
    from the averaged weights at half precision, so its history is only close.

    Args:
        cells: (N, 3, S, S), RGB, 0..255; may be a memory map.
        labels: (N,), the class of each cell, 0..len(class_names)-1.
        class_names: the name of each class.
        train_rows: rows of `cells` to learn from, at least two.
        val_rows: rows of `cells` that are judged after each epoch, none of them in `train_rows`; where the best epoch
            is kept they choose it, by one view of each cell.
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
    _check_data(cells, labels, class_names, train_rows, val_rows)
    with _private_ultralytics():
        from malaria_diffusion.classifier import yolo as yolo_trainer

        data = yolo_trainer.CellData(cells, labels, tuple(class_names), train_rows, val_rows)
        run = _fingerprint(cells, labels, class_names, train_rows, val_rows, parameters, weights)
        return yolo_trainer.train(data, parameters, Path(folder) / run, weights, run, on_epoch)


def predict(
    checkpoint: Path, cells: NDArray[np.uint8], batch_size: int = 256, device: DeviceName = "auto"
) -> NDArray[np.float32]:
    """Class probabilities of cells, prepared as they were in validation.

    Args:
        checkpoint: what `train_classifier` returned; it carries the image size, and whether to average over mirrorings.
        cells: (N, 3, S, S), RGB, 0..255; may be a memory map, read a batch at a time.
        batch_size: cells at once; bounds memory, does not change the result.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Returns:
        (N, classes); each row sums to 1.

    Raises:
        ValueError: `cells` of the wrong type or shape, or a checkpoint that is unsafe or not a YOLOv8 classifier.
    """
    _check_cells(cells)
    return load_predictor(checkpoint, batch_size, device)(cells)


def load_predictor(
    checkpoint: Path, batch_size: int = 256, device: DeviceName = "auto", test_time_augmentation: bool | None = None
) -> Predictor:
    """`predict` for many calls: the checkpoint is read once.

    Args:
        checkpoint: see `predict`.
        batch_size: see `predict`.
        device: see `predict`.
        test_time_augmentation: whether to average over the eight mirrorings and turns of each cell. None: as the
            checkpoint was trained to be used (`ClassifierParameters.test_time_augmentation`).

    Returns:
        A function from cells, uint8 (N, 3, S, S), to their class probabilities (N, classes).

    Raises:
        ValueError: a checkpoint that is unsafe or not a YOLOv8 classifier; the function, on cells of the wrong type or
            shape.
    """
    return _predictor(checkpoint, batch_size, device, test_time_augmentation)


def random_classifier(
    checkpoint: Path, typical: NDArray[np.uint8], seed: int, batch_size: int = 256, device: DeviceName = "auto"
) -> Predictor:
    """The same architecture with new random weights: what an untrained network says of cells.

    Args:
        checkpoint: the trained classifier, for its architecture, classes and image size.
        typical: (M, 3, S, S), at least two cells; batch normalisation is fitted to them, as without that the output of
            random weights hardly varies with the image.
        seed: of the weights.
        batch_size: see `predict`.
        device: see `predict`.

    Raises:
        ValueError: see `load_predictor`, and fewer than two typical cells.
    """
    _check_cells(typical)
    if len(typical) < 2:
        raise UserError(f"A random classifier is fitted to at least 2 typical cells; found {len(typical)}.")
    return _predictor(checkpoint, batch_size, device, False, typical, seed)


def _predictor(checkpoint: Path, *arguments: Any) -> Predictor:
    with _private_ultralytics():
        from malaria_diffusion.classifier import yolo as yolo_trainer

        loaded = yolo_trainer.load_predictor(Path(checkpoint), *arguments)

    def predictor(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        _check_cells(cells)
        with _private_ultralytics():  # it sets the number of threads, too
            return loaded(cells)

    return predictor


@contextmanager
def _private_ultralytics() -> Iterator[None]:
    """Ultralytics with settings of its own, silent, and without side effects on this process or the user's folders."""
    import torch  # before ultralytics, which would leave torch a single thread

    threads = torch.get_num_threads()
    if "ultralytics" not in sys.modules:
        # These are read once, at import. The user's settings are neither read nor created, nothing is looked up on
        # the network, and no package is installed behind our back.
        with tempfile.TemporaryDirectory() as settings:
            private = {
                "YOLO_CONFIG_DIR": settings,
                "YOLO_OFFLINE": "true",
                "YOLO_AUTOINSTALL": "false",
                "YOLO_VERBOSE": "false",
                "OMP_NUM_THREADS": str(threads),
            }
            before = {name: os.environ.get(name) for name in private}
            os.environ.update(private)
            pillows_open = Image.open
            try:
                import ultralytics  # noqa: F401
            finally:
                Image.open = pillows_open  # theirs wants another package before it says that bytes are no image
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})
    from ultralytics.utils import LOGGER, SETTINGS

    torch.set_num_threads(threads)
    theirs, level = dict(SETTINGS), LOGGER.level
    dict.update(SETTINGS, dict.fromkeys(_TRACKERS, False))  # dict's own update: theirs would write the file
    LOGGER.setLevel("ERROR")
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        dict.update(SETTINGS, theirs)
        torch.set_num_threads(threads)


def _download(path: Path) -> Path:
    """Fetch an official file with ultralytics' downloader, which publishes it whole or not at all."""
    with _private_ultralytics():
        import requests
        from ultralytics.utils.downloads import GITHUB_ASSETS_REPO, attempt_download_asset

        # The downloader waits long for a silent network; this asks first, briefly, through any proxy.
        requests.head(f"https://github.com/{GITHUB_ASSETS_REPO}", timeout=5).raise_for_status()
        attempt_download_asset(path, retry=0)
    if not path.is_file():
        raise FileNotFoundError(path)
    return path


def _check_cells(cells: NDArray[np.uint8]) -> None:
    if cells.dtype != np.uint8 or cells.ndim != 4 or cells.shape[1] != 3 or cells.shape[2] != cells.shape[3]:
        raise UserError(
            f"The cells are {cells.dtype} of shape {cells.shape}; expected uint8 of shape (N, 3, S, S), RGB."
        )


def _check_data(
    cells: NDArray[np.uint8],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    train_rows: NDArray[np.integer],
    val_rows: NDArray[np.integer],
) -> None:
    _check_cells(cells)
    if labels.shape != (len(cells),):
        raise UserError(f"The labels have shape {labels.shape}; expected one per cell, ({len(cells)},).")
    if not np.isin(labels, np.arange(len(class_names))).all():
        raise UserError(
            f"The labels are {np.unique(labels).tolist()}; expected 0..{len(class_names) - 1}, one number for each of "
            f"the classes {list(class_names)}."
        )
    for name, rows, least in (("train_rows", train_rows, 2), ("val_rows", val_rows, 1)):
        if len(rows) < least or rows.min() < 0 or rows.max() >= len(cells):
            raise UserError(
                f"The {len(rows)} {name} must be at least {least} and lie in 0..{len(cells) - 1}, the cells there are."
            )
    if shared := len(np.intersect1d(train_rows, val_rows)):
        raise UserError(f"{shared} cells are in both train_rows and val_rows; a cell may be in only one of them.")


def _fingerprint(
    cells: NDArray[np.uint8],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    train_rows: NDArray[np.integer],
    val_rows: NDArray[np.integer],
    parameters: ClassifierParameters,
    weights: Path | None,
) -> str:
    """A name that changes with anything that a resumed run must have in common with the killed one."""
    digest = blake2b(parameters.model_dump_json(exclude={"device", "weights", "kept_epoch"}).encode(), digest_size=8)
    digest.update(repr((tuple(class_names), cells.shape[1:], len(train_rows))).encode())
    digest.update(b"" if weights is None else Path(weights).read_bytes())
    rows = np.concatenate([train_rows, val_rows]).astype(np.int64)
    digest.update(rows.tobytes() + labels[rows].astype(np.int64).tobytes())
    for start in range(0, len(rows), _HASHED_AT_ONCE):
        digest.update(np.ascontiguousarray(cells[rows[start : start + _HASHED_AT_ONCE]]).data)
    return digest.hexdigest()
