"""Several processes that train or sample together, started by `accelerate launch` (or torchrun)."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Processes:
    """This process among those of a run.

    Attributes:
        index: 0 for the main one, which alone writes and shows progress.
        count: How many there are.
    """

    index: int
    count: int

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.index == 0

    def share(self, total: int) -> range:
        """This process's part of `total` things; the parts follow each other and differ by one at most."""
        return range(self.index * total // self.count, (self.index + 1) * total // self.count)

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over all processes."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.count
        return value

    def concatenate(self, part: NDArray[Scalar]) -> NDArray[Scalar]:
        """The parts of all processes in their order, on every process."""
        if self.count == 1:
            return part
        parts: list[NDArray[Scalar]] = [part] * self.count
        distributed.all_gather_object(parts, part)
        return np.concatenate(parts)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.count > 1:
            distributed.barrier()


def join_processes(device: torch.device) -> Processes:
    """Meet the other processes of this run, if a launcher has started any."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1)
    if not distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Processes(distributed.get_rank(), distributed.get_world_size())
