"""Cells as the network sees them: sized, mirrored, turned, tinted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_MIRRORED: tuple[Callable[[Tensor], Tensor], ...] = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT)


def prepare(cells: Tensor, image_size: int) -> Tensor:
    """Cells (B, 3, S, S), 0..255, as the network sees them: whole, `image_size` square, float, 0..1."""
    images = cells.float() / 255
    if images.shape[-1] == image_size:
        return images
    return torch.nn.functional.interpolate(images, (image_size, image_size), mode="bilinear", antialias=True)


def symmetries(images: Tensor) -> Iterator[Tensor]:
    """The eight mirrorings and turns of square images (B, 3, S, S)."""
    for turned in (images, images.mT):
        yield from (turned, turned.flip(-1), turned.flip(-2), turned.flip((-1, -2)))


def augment(images: Tensor, flips: Tensor, gains: Tensor) -> Tensor:
    """Mirror, turn and tint cells; nothing is cropped, scaled or erased.

    Args:
        images: (B, 3, S, S), 0..1.
        flips: (3, B) booleans, left-right, up-down and along the diagonal.
        gains: (B, 3), what each channel is multiplied by.

    Returns:
        (B, 3, S, S), 0..1.
    """
    for flipped, mirrored in zip(flips, _MIRRORED, strict=True):
        images = torch.where(flipped[:, None, None, None], mirrored(images), images)
    return (images * gains[:, :, None, None]).clamp(max=1)
