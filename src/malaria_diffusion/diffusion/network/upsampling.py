"""Twice the side, then a convolution: on a processor, one transposed convolution with the same result."""

from __future__ import annotations

from typing import Any

from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional


class MergedUpsample(Upsample2D):
    """diffusers' upsampling, to nearest and then a 3 x 3 convolution, as one transposed convolution.

    Every pixel is four equal ones before the convolution, so its nine weights meet but four different values: 4/9 of
    the multiplications are enough, and the large image between the two is never made. Weights, their names and the
    result, to rounding, are those of diffusers; a GPU goes its way.
    """

    conv: Any  # nn.Conv2d, where diffusers infers the last kind that it may be

    def __init__(self, original: Upsample2D) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(original.__dict__)  # its weights, not new ones: none is drawn

    def forward(self, hidden_states: Tensor, output_size: Any = None) -> Tensor:
        """(B, C, H, W) to (B, C', 2H, 2W)."""
        if hidden_states.device.type != "cpu" or output_size is not None:
            return super().forward(hidden_states, output_size)
        return functional.conv_transpose2d(hidden_states, merged(self.conv.weight), self.conv.bias, stride=2, padding=1)


def merged(weight: Tensor) -> Tensor:
    """The kernel (I, O, 4, 4) of a transposed convolution of stride 2, from that of a convolution (O, I, 3, 3).

    Spreading a value over 2 x 2 pixels is a transposed convolution with ones, so the kernel is the mirrored one,
    convolved with 2 x 2 ones.
    """
    padded = functional.pad(weight.flip(2, 3), (1, 1, 1, 1))
    tall = padded[:, :, 1:] + padded[:, :, :-1]
    return (tall[..., 1:] + tall[..., :-1]).transpose(0, 1)


def can_be_merged(layer: Upsample2D) -> bool:
    """Whether it is diffusers' own, with a convolution."""
    return type(layer) is Upsample2D and isinstance(getattr(layer, "conv", None), nn.Conv2d)
