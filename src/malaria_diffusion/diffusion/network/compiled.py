"""A network made ready for speed: compiled, and without two things that PyTorch does slowly on a CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class ChannelwiseGroupNorm(nn.Module):
    """Group normalisation computed channel by channel, for the compiler on a CPU.

    Sums over groups of 8 or 12 channels do not fill a vector register when channels lie innermost in memory; sums over
    single channels do, and a small matrix averages them within each group. Same weights and result as nn.GroupNorm.
    """

    averages: Tensor

    def __init__(self, original: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = original.weight, original.bias, original.eps
        width = original.num_channels // original.num_groups
        averages = torch.kron(torch.eye(original.num_groups), torch.full((width, width), 1 / width))
        self.register_buffer("averages", averages, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...)."""
        wide = x.float()
        over = tuple(range(2, x.ndim))
        with torch.autocast(x.device.type, enabled=False):
            mean = wide.mean(over) @ self.averages
            variance = (wide.square().mean(over) @ self.averages - mean.square()).clamp(min=0)
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        shape = (*x.shape[:2], *[1] * len(over))
        return (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)


def compile_network(network: nn.Module) -> None:
    """Compile in place; names and values of the weights stay as they are."""
    if next(network.parameters()).device.type == "cpu":
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, ChannelwiseGroupNorm(child))
    network.compile(dynamic=False)


def quick_attention(device: torch.device) -> AbstractContextManager[None]:
    """Attention whose gradient is quick for the few and narrow heads of a U-Net; on a CPU that is the plain formula."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
