"""The network: diffusers' UNet2DModel, conditioned on the class, of pixels or of patches of them."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DModel, UNet2DOutput
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from malaria_diffusion.diffusion.config import NetworkParameters
from malaria_diffusion.diffusion.network.normalisation import NarrowGroupNorm
from malaria_diffusion.diffusion.network.replacing import replace_layers
from malaria_diffusion.diffusion.network.upsampling import MergedUpsample, can_be_merged
from malaria_diffusion.errors import UserError

COLOURS = 3


class PatchUNet(UNet2DModel):
    """A UNet2DModel of images in which a patch of p x p pixels is one place with 3 p^2 channels.

    p follows from the number of channels, so what is stored is a plain UNet2DModel of the unshuffled images: whoever
    samples there shuffles once at the end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        replace_layers(self, Upsample2D, MergedUpsample, can_be_merged)
        replace_layers(self, nn.GroupNorm, NarrowGroupNorm)

    def train(self, mode: bool = True) -> PatchUNet:
        """As of any network, but that its blocks keep images in the order in memory that convolutions like."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, ResnetBlock2D):
                module.training = False  # read for that alone; the dropout in it is a module of its own
        return self

    @property
    def patch_size(self) -> int:
        """p."""
        return math.isqrt(self.config["in_channels"] // COLOURS)

    def forward(  # type: ignore[override]  # diffusers' may answer with a tuple; that is not needed here
        self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | None = None
    ) -> UNet2DOutput:
        """Answer of shape (B, 3, S, S) to images (B, 3, S, S)."""
        if self.patch_size == 1:
            return UNet2DOutput(sample=super().forward(sample, timestep, class_labels, return_dict=False)[0])
        patches = functional.pixel_unshuffle(sample, self.patch_size).contiguous(memory_format=torch.channels_last)
        answer = super().forward(patches, timestep, class_labels, return_dict=False)[0]
        return UNet2DOutput(sample=functional.pixel_shuffle(answer, self.patch_size))

    def plain(self) -> UNet2DModel:
        """A UNet2DModel with the same weights, of unshuffled images if p > 1."""
        network: UNet2DModel = UNet2DModel.from_config(self.config)
        network.load_state_dict(self.state_dict())
        return network


functools.update_wrapper(PatchUNet.__init__, UNet2DModel.__init__)  # diffusers reads there what may be configured


def build_network(parameters: NetworkParameters, size: int, num_classes: int, unconditional: bool = False) -> PatchUNet:
    """A network for (B, 3, size, size) images in [-1, 1] of `num_classes` classes, randomly initialised.

    With `unconditional` it knows one class more, the last, for images whose class is not told.

    Call it as `network(x_t, t, class_labels=labels).sample`.

    Raises:
        UserError: patches do not fill the side, it does not survive the halvings, or attention is at no side of it.
    """
    patch, levels = parameters.patch_size, len(parameters.channels)
    if size % patch:
        raise UserError(
            f"images of {size} px are not made of patches of {patch} x {patch} px; use a diffusion.network.patch_size "
            "that divides the side, or another data_processing.packing.size"
        )
    side = size // patch
    if side % 2 ** (levels - 1):
        patches = "" if patch == 1 else f" in patches of {patch} px"
        raise UserError(
            f"images of {size} px{patches} cannot be halved {levels - 1} times; use fewer diffusion.network.channels "
            "or another data_processing.packing.size"
        )
    sides = [side >> level for level in range(levels)]
    missing = sorted(set(parameters.attention_sides) - set(sides))
    if missing:
        raise UserError(f"diffusion.network.attention_sides {missing} do not occur; this network has sides {sides}")
    with_attention = [side in parameters.attention_sides for side in sides]
    return PatchUNet(
        sample_size=side,
        in_channels=COLOURS * patch**2,
        out_channels=COLOURS * patch**2,
        layers_per_block=parameters.layers_per_block,
        block_out_channels=tuple(parameters.channels),
        down_block_types=tuple("AttnDownBlock2D" if yes else "DownBlock2D" for yes in with_attention),
        up_block_types=tuple("AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(with_attention)),
        attention_head_dim=min(parameters.attention_head_channels, *parameters.channels),
        resnet_time_scale_shift="scale_shift" if parameters.scale_shift else "default",
        norm_num_groups=parameters.norm_groups,
        dropout=parameters.dropout,
        num_class_embeds=num_classes + unconditional,
    )
