"""Reading YOLOv8 classifier checkpoints without running what they carry.

Ultralytics' `.pt` files are pickles of whole modules, and a pickle can name any function to call. Here only the
classes a YOLOv8 classifier is made of are allowed; a file that names anything else is refused before it is loaded.
Imported only inside `classifier`'s private ultralytics.
"""

import copyreg
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms import transforms as preprocessing
from torchvision.transforms.functional import InterpolationMode
from ultralytics.nn.tasks import ClassificationModel

from malaria_diffusion.errors import UserError

# the first releases of Python 3.11, such as Debian 12's, pickle an Enum as a call of getattr, which no file may name
copyreg.pickle(InterpolationMode, lambda mode: (InterpolationMode, (mode.value,)))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read an ultralytics classifier checkpoint.

    Args:
        path: the `.pt` file.

    Returns:
        Ultralytics' dictionary; `ema` or `model` holds the model, a `ClassificationModel`.

    Raises:
        ValueError: the file is damaged, names a forbidden global, or holds no classifier.
    """
    allowed = _allowed_globals()
    try:
        named = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        with torch.serialization.safe_globals([(allowed[name], name) for name in named & allowed.keys()]):
            checkpoint = None if named - allowed.keys() else torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, ValueError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a PyTorch checkpoint: {error}") from error
    if forbidden := sorted(named - allowed.keys()):
        raise UserError(
            f"{path} is refused: it names {', '.join(forbidden)}, which no YOLOv8 classifier consists of; use an "
            "official yolov8*-cls.pt file or one trained by this project."
        )
    if not isinstance(checkpoint, dict) or not isinstance(_model(checkpoint), ClassificationModel):
        raise UserError(f"{path} holds no ultralytics classifier; expected an ultralytics yolov8*-cls checkpoint.")
    return checkpoint


def read_model(path: Path) -> tuple[ClassificationModel, dict[str, Any]]:
    """Read the model of a checkpoint in single precision, and the arguments it was trained with.

    Raises:
        ValueError: see `read_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    return _model(checkpoint).float(), checkpoint.get("train_args") or {}


def transfer_weights(path: Path, model: ClassificationModel, architecture: str) -> None:
    """Copy a checkpoint's weights into `model`; the head stays new where the number of classes differs.

    Args:
        path: the checkpoint.
        model: the model to fill, of the named architecture.
        architecture: such as `yolov8n-cls`, for the message.

    Raises:
        ValueError: the file is unsafe or damaged, or its layers are not those of `model`.
    """
    theirs, ours = read_model(path)[0].state_dict(), model.state_dict()
    head = f"model.{len(model.model) - 1}.linear."
    if theirs.get(f"{head}bias", torch.empty(0)).shape != ours[f"{head}bias"].shape:
        theirs |= {name: value for name, value in ours.items() if name.startswith(head)}
    differing = theirs.keys() ^ ours.keys() or {name for name in ours if theirs[name].shape != ours[name].shape}
    if differing:
        raise UserError(
            f"{path} does not hold a {architecture}: {len(differing)} of its tensors differ in name or shape, such as "
            f"{min(differing)}; set `validation.classifier.architecture` to what the file holds, or "
            "`validation.classifier.weights` to a file of this architecture or to null."
        )
    model.load_state_dict(theirs)


def _model(checkpoint: dict[str, Any]) -> Any:
    return checkpoint.get("ema") or checkpoint.get("model")


@cache
def _allowed_globals() -> dict[str, type]:
    """The classes of a YOLOv8 classifier and of the preprocessing that ultralytics stores with it, by name."""
    classes = {type(module) for module in ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False).modules()}
    classes |= {getattr(preprocessing, name) for name in ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize")}
    classes |= {InterpolationMode}
    return {f"{value.__module__}.{value.__qualname__}": value for value in classes}
