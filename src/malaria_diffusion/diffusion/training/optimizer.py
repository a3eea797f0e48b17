"""The optimizers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from malaria_diffusion.diffusion.config import TrainingParameters
from malaria_diffusion.diffusion.training.muon import TogetherMuon
from malaria_diffusion.diffusion.training.objective import Objective

ADAMS: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
ADAM_SHARE = 0.5  # of the learning rate, beside Muon; `share` in the parameter groups that have less than all of it
ENDS = ("conv_in.", "conv_out.")  # of the network, whose sides are colours: Muon's authors leave such layers to Adam


class MuonAndAdam:
    """Muon for matrices, and Adam for all else, as if they were one optimizer.

    Muon takes matrices only. A convolution's weight (out, in, h, w) is one of out rows; its columns may come in any
    order, as orthogonalising does not see it, so the order in memory (channels last) serves, without a copy.
    """

    def __init__(self, matrices: list[nn.Parameter], others: list[dict[str, Any]], rate: float, decay: float) -> None:
        self._matrices = matrices
        self._views = [nn.Parameter(_as_matrix(weight.detach())) for weight in matrices]
        if any(view.data_ptr() != weight.data_ptr() for view, weight in zip(self._views, matrices, strict=True)):
            raise ValueError("weights of convolutions must lie in memory with their channels last")
        self._muon = TogetherMuon(self._views, rate, decay)
        shared = [{"share": ADAM_SHARE} | group for group in others]
        self._adam = torch.optim.Adam(shared, lr=ADAM_SHARE * rate, weight_decay=decay, fused=_fused(matrices))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of both, Muon's first."""
        return self._muon.param_groups + self._adam.param_groups

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._adam.zero_grad()
        for weight in self._matrices:
            weight.grad = None

    def step(self) -> None:
        """Update all weights by their gradients."""
        for weight, view in zip(self._matrices, self._views, strict=True):
            view.grad = None if weight.grad is None else _as_matrix(weight.grad)
        self._muon.step()
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """As of one optimizer: states by number, those of Muon first."""
        muon, adam = self._muon.state_dict(), self._adam.state_dict()
        first = len(self._views)
        state = muon["state"] | {first + index: state for index, state in adam["state"].items()}
        return {"state": state, "param_groups": muon["param_groups"] + adam["param_groups"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put what `state_dict` gave back."""
        first, groups = len(self._views), len(self._muon.param_groups)
        muon = {index: state for index, state in state_dict["state"].items() if index < first}
        adam = {index - first: state for index, state in state_dict["state"].items() if index >= first}
        self._muon.load_state_dict({"state": muon, "param_groups": state_dict["param_groups"][:groups]})
        self._adam.load_state_dict({"state": adam, "param_groups": state_dict["param_groups"][groups:]})


Optimizer = torch.optim.Optimizer | MuonAndAdam


def build_optimizer(objective: Objective, parameters: TrainingParameters) -> Optimizer:
    """The optimizer of all weights of `objective`, where they lie now."""
    weights = dict(objective.network.named_parameters())
    groups: list[dict[str, Any]] = [{"params": list(weights.values())}]
    if objective.schedule is not None:  # zero is no noise level to be drawn to
        groups.append({"params": list(objective.schedule.parameters()), "weight_decay": 0.0})
    rate, decay = parameters.learning_rate, parameters.weight_decay
    if parameters.optimizer != "muon":
        return ADAMS[parameters.optimizer](groups, lr=rate, weight_decay=decay, fused=_fused(list(weights.values())))
    matrices = [weight for name, weight in weights.items() if _is_matrix(name, weight)]
    groups[0]["params"] = [weight for name, weight in weights.items() if not _is_matrix(name, weight)]
    return MuonAndAdam(matrices, groups, rate, decay)


def state_shapes(optimizer: Optimizer) -> dict[str, torch.Size]:
    """Name and shape of every tensor of the state after a step."""
    shapes: dict[str, torch.Size] = {}
    index = 0
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if "momentum" in group:  # Muon
                named = {"momentum_buffer": weight.shape}
            else:
                named = {"step": torch.Size(), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}
            shapes |= {f"{index}.{name}": shape for name, shape in named.items()}
            index += 1
    return shapes


def _is_matrix(name: str, weight: Tensor) -> bool:
    return (weight.ndim == 4 and not name.startswith(ENDS)) or (weight.ndim == 2 and ".attentions." in name)


def _as_matrix(weight: Tensor) -> Tensor:
    if weight.ndim == 2:
        return weight
    return weight.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(1)


def _fused(weights: list[nn.Parameter]) -> bool:
    return weights[0].device.type != "mps"
