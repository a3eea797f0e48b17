"""Where to compute, and in which precision."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from malaria_diffusion.compute.config import DeviceName, PrecisionName
from malaria_diffusion.errors import UserError


def resolve_device(name: DeviceName) -> torch.device:
    """The device `name` stands for; "auto" is CUDA if there is one, else MPS, else the CPU.

    Of several GPUs each process of a machine takes its own.

    Raises:
        UserError: the device is asked for by name and not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        raise UserError(f"device {name!r} is not available here, only {[d for d in there if there[d]]}; or use 'auto'")
    return torch.device(name, int(os.environ.get("LOCAL_RANK", "0"))) if name == "cuda" else torch.device(name)


def resolve_precision(name: PrecisionName, device: torch.device) -> torch.dtype:
    """The dtype of the network's arithmetic; "auto" is bfloat16 where the hardware has it, else float32."""
    if name != "auto":
        precision: torch.dtype = getattr(torch, name)
        return precision
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and multiplies_bfloat16() is not None else torch.float32


class Compute(NamedTuple):
    """Where a network answers, and in which precision."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, device: DeviceName, precision: PrecisionName) -> Compute:
        """As parameters name them, see `resolve_device` and `resolve_precision`."""
        resolved = resolve_device(device)
        return cls(resolved, resolve_precision(precision, resolved))


def multiplies_bfloat16() -> str | None:
    """What this processor multiplies bfloat16 with, "AMX" or "AVX-512 BF16"; None if it does not."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX-512 BF16" if torch.cpu._is_avx512_bf16_supported() else None
