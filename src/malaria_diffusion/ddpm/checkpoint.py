"""Training state on disk: one safetensors file, whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from malaria_diffusion.errors import UserError

FORMAT = "malaria_diffusion training 1"


class CheckpointError(UserError):
    """A checkpoint cannot be used; the message names the file, what was found and what to do."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
    """Write beside, flush, rename: a process killed at any moment leaves the old file or the new one."""
    beside = path.with_suffix(".tmp")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, beside, metadata={"format": FORMAT, "progress": json.dumps(progress)})
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)


def load_progress(path: Path) -> dict[str, Any]:
    """The progress stored with a checkpoint, without reading its tensors.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    return json.loads(_open(path).metadata()["progress"])


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    file = _open(path)
    return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)


def pack_state(network: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, averaged weights and optimizer state as one flat dict."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in ema.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    return tensors


def unpack_state(
    tensors: dict[str, Tensor], network: nn.Module, ema: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Put what `pack_state` made back, in place."""
    network.load_state_dict(select(tensors, "network."))
    for name, tensor in select(tensors, "ema.").items():
        ema[name].copy_(tensor)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in select(tensors, "optimizer.").items():
        index, name = key.split(".")
        # moments must lie in memory as their parameter does (channels last): fused optimizers walk both side by side
        like = parameters[int(index)]
        state.setdefault(int(index), {})[name] = torch.empty_like(like).copy_(tensor) if tensor.ndim else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def select(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _open(path: Path) -> Any:
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a whole checkpoint ({error}); move it away to train from the start, or put a good copy there"
        ) from error
    found = (file.metadata() or {}).get("format")
    if found != FORMAT:
        raise CheckpointError(f"{path}: found format {found!r}, expected {FORMAT!r}; move the file away")
    return file
