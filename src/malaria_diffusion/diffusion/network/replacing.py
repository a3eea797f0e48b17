"""Layers of diffusers' networks, replaced with ones that do the same otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def replace_layers(
    network: nn.Module,
    kind: type[Layer],
    stand_in: Callable[[Layer], nn.Module],
    where: Callable[[Layer], bool] = lambda layer: True,
) -> None:
    """Put `stand_in(layer)` in the place of every layer of a kind in `network`.

    Stand-ins that take over the weights keep their names and values. What a stand-in consists of is not looked into.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind) and where(child):
                setattr(module, name, stand_in(child))
