"""Group normalisation that is quick on a processor where groups are narrow, uncompiled and compiled: same layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NARROW = 16  # channels a group, from which on PyTorch's own loops fill a vector register
FEW = 1024  # pixels, below which it goes through channels-last images group by group


class NarrowGroupNorm(nn.GroupNorm):
    """nn.GroupNorm for narrow groups of bf16 images in channels-last memory on a CPU, with a gradient of our own.

    There PyTorch goes through each pixel's group on its own, a few numbers at a time. Small images are quicker copied
    there and back; the gradient sums whole channels and combines them afterwards. Weights, their names and, but for
    rounding, what it answers are those of nn.GroupNorm.
    """

    def __init__(self, original: nn.GroupNorm) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(original.__dict__)  # its weights, not new ones

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...)."""
        narrow = self.num_channels < NARROW * self.num_groups
        if not narrow or x.ndim != 4 or x.device.type != "cpu" or x.dtype != torch.bfloat16:
            return super().forward(x)
        if not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        answer: Tensor = Normalise.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return answer


class Normalise(torch.autograd.Function):
    """PyTorch's group normalisation, with its gradient by the formula."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """Normalise x, (B, C, H, W), with weight and bias, (C,)."""
        images, channels, height, width = x.shape
        there = x if height * width >= FEW else x.contiguous()
        answer, mean, rstd = torch.native_group_norm(there, weight, bias, images, channels, height * width, groups, eps)
        answer = answer.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight, mean, rstd)
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """With z the normalised x, of weights w: dx = rstd (w dy - mean of w dy - z mean of w dy z), over a group."""
        x, weight, mean, rstd = ctx.saved_tensors
        (images, channels, *sides), groups = x.shape, mean.shape[1]
        wide = weight.view(groups, -1).to(torch.promote_types(weight.dtype, torch.float32))
        mean, rstd = mean.to(wide.dtype)[..., None], rstd.to(wide.dtype)[..., None]

        # rows of several pixels, so that loops over a row are long
        together = math.gcd(math.prod(sides), 16)
        dy, x_rows = (each.permute(0, 2, 3, 1).reshape(images, -1, together * channels) for each in (gradient, x))

        def along(coefficients: Tensor) -> Tensor:
            each = coefficients.expand(images, groups, channels // groups).flatten(1)
            return each.to(x.dtype).repeat(1, together)[:, None]

        def over_pixels(rows: Tensor) -> Tensor:
            return rows.view(images, -1, channels).sum(1).to(wide.dtype).view(images, groups, -1)

        # almost z, with coefficients that x's precision has rounded; z = slant near + lift exactly
        scale, shift = (each.to(x.dtype).to(wide.dtype) for each in (rstd, -mean * rstd))
        slant, lift = rstd / scale, -mean * rstd - rstd / scale * shift
        near = torch.addcmul(along(shift), x_rows, along(scale))

        dbias = over_pixels(dy)
        dweight = slant * over_pixels(dy * near) + lift * dbias
        offset, slope = ((wide * each).sum(2, keepdim=True) * (groups / x[0].numel()) for each in (dbias, dweight))
        dx = torch.addcmul(along(-rstd * (offset + slope * lift)), near, along(-rstd * slope * slant))
        dx = dx.addcmul_(dy, along(rstd * wide)).view(images, *sides, channels).permute(0, 3, 1, 2)
        return dx, *(each.sum(0).flatten().to(weight.dtype) for each in (dweight, dbias)), None, None


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
