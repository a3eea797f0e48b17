"""The network: diffusers' UNet2DModel, conditioned on the class."""

from __future__ import annotations

from diffusers import UNet2DModel

from malaria_diffusion.ddpm.parameters import NetworkParameters
from malaria_diffusion.errors import UserError


def build_network(
    parameters: NetworkParameters, size: int, num_classes: int, unconditional: bool = False
) -> UNet2DModel:
    """A network for (B, 3, size, size) images in [-1, 1] of `num_classes` classes, randomly initialised.

    With `unconditional` it knows one class more, the last, for images whose class is not told.

    Call it as `network(x_t, t, class_labels=labels).sample`.

    Raises:
        ValueError: the side does not survive the halvings.
    """
    levels = len(parameters.channels)
    if size % 2 ** (levels - 1):
        raise UserError(
            f"images of {size} px cannot be halved {levels - 1} times; use fewer diffusion.network.channels or "
            "another data_processing.packing.size"
        )
    sides = [size >> level for level in range(levels)]
    missing = sorted(set(parameters.attention_sides) - set(sides))
    if missing:
        raise UserError(f"diffusion.network.attention_sides {missing} do not occur; this network has sides {sides}")
    with_attention = [side in parameters.attention_sides for side in sides]
    return UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        layers_per_block=parameters.layers_per_block,
        block_out_channels=tuple(parameters.channels),
        down_block_types=tuple("AttnDownBlock2D" if yes else "DownBlock2D" for yes in with_attention),
        up_block_types=tuple("AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(with_attention)),
        norm_num_groups=parameters.norm_groups,
        dropout=parameters.dropout,
        num_class_embeds=num_classes + unconditional,
    )
