"""Training state on disk: one safetensors file, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from malaria_diffusion.diffusion.training.optimizer import Optimizer, state_shapes
from malaria_diffusion.errors import UserError

FORMAT = "malaria_diffusion training 2"


class CheckpointError(UserError):
    """A checkpoint cannot be used; the message names the file, what was found and what to do."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    """Write beside, flush, rename: a process killed at any moment leaves the old file or the new one.

    Raises:
        CheckpointError: it cannot be written, as on a full disk; the former file is untouched.
    """
    beside = path.with_suffix(".tmp")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    written = json.dumps(progress)
    metadata = {
        "format": FORMAT,
        "progress": written,
        "progress_sha256": _digest_text(written),
        "tensors_sha256": _digest_tensors(contiguous),
    }
    try:
        save_file(contiguous, beside, metadata=metadata)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except (SafetensorError, OSError) as error:
        beside.unlink(missing_ok=True)
        kept = "the checkpoint before it is untouched" if path.exists() else "there is none before it"
        raise CheckpointError(
            f"{path}: could not be written ({error}); {kept}. Free space for "
            f"{sum(tensor.nbytes for tensor in contiguous.values()) / 1e6:,.0f} MB and run the same command again"
        ) from error


def load_progress(path: Path) -> dict[str, Any]:
    """The progress stored with a checkpoint, without reading its tensors.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    metadata = _open(path).metadata()
    if metadata.get("progress_sha256") != _digest_text(metadata.get("progress", "")):
        raise _damaged(path, "its progress does not match its checksum")
    progress: dict[str, Any] = json.loads(metadata["progress"])
    return progress


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    file = _open(path)
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    if file.metadata().get("tensors_sha256") != _digest_tensors(tensors):
        raise _damaged(path, "its tensors do not match their checksum")
    return tensors


def pack_state(module: nn.Module, averages: dict[float, dict[str, Tensor]], optimizer: Optimizer) -> dict[str, Tensor]:
    """Weights, averaged weights by their decay, and optimizer state as one flat dict."""
    tensors = {f"weights.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= _named_averages(averages)
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    return tensors


def unpack_state(
    tensors: dict[str, Tensor], module: nn.Module, averages: dict[float, dict[str, Tensor]], optimizer: Optimizer
) -> None:
    """Put what `pack_state` made after a step back, in place.

    Raises:
        ValueError: the tensors are not those of such a state; nothing has been changed.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    expected = {f"weights.{name}": tensor.shape for name, tensor in module.state_dict().items()}
    expected |= {name: tensor.shape for name, tensor in _named_averages(averages).items()}
    expected |= {f"optimizer.{name}": shape for name, shape in state_shapes(optimizer).items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise ValueError(f"{name} is {_shape(found.get(name))}, expected {_shape(expected.get(name))}")

    module.load_state_dict(select(tensors, "weights."))
    state: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for name, average in _named_averages(averages).items():
            average.copy_(tensors[name])
        for key, tensor in select(tensors, "optimizer.").items():
            index, name = key.split(".")
            # moments must lie in memory as their parameter does (channels last): fused optimizers walk both abreast
            laid_out = tensor if name == "step" else torch.empty_like(parameters[int(index)]).copy_(tensor)
            state.setdefault(int(index), {})[name] = laid_out
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _named_averages(averages: dict[float, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The first under "ema.", as if there were no other, and each other one under its decay."""
    named: dict[str, Tensor] = {}
    for place, (decay, average) in enumerate(averages.items()):
        prefix = "ema." if place == 0 else f"ema {decay}."
        named |= {prefix + name: tensor for name, tensor in average.items()}
    return named


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else f"of shape {tuple(shape)}"


def _digest_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_tensors(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _open(path: Path) -> Any:
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error
    found = (file.metadata() or {}).get("format")
    if found != FORMAT:
        raise CheckpointError(f"{path}: found format {found!r}, expected {FORMAT!r}; move the file away")
    return file


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: not a whole checkpoint ({why}); move it away to train from the start, or put a good copy there"
    )
