"""Muon whose many small matrices are orthogonalised together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TogetherMuon(torch.optim.Muon):
    """torch's Muon, state and parameters included, but for the order of its products.

    The iteration of Newton and Schulz (Jordan et al. 2024) multiplies a wide matrix X five times by a polynomial of
    X X^T. Here the five polynomials, which all follow from the first X X^T, are multiplied first: only two products are
    as wide as X, and those between are done for all matrices of a height at once. In float32, as small singular values
    are squared; torch's is in bfloat16.
    """

    def __init__(self, weights: list[nn.Parameter], rate: float, decay: float) -> None:
        super().__init__(weights, lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all weights by their gradients.

        Raises:
            ValueError: a closure was given, which no optimizer here evaluates.
        """
        if closure is not None:
            raise ValueError("no closure is evaluated: take the gradients first, then the step")
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(group, weights, [weight.grad for weight in weights])

    def _update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        states = [self.state[weight] for weight in weights]
        for state, gradient in zip(states, gradients, strict=True):
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        buffers = [state["momentum_buffer"] for state in states]
        momentum, rate = group["momentum"], group["lr"]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, buffers, momentum)
        updates = orthogonalised(nesterov, group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        for weight, update in zip(weights, updates, strict=True):
            # elements as large as AdamW's are in practice (Liu et al. 2025)
            weight.add_(update, alpha=-rate * 0.2 * max(weight.shape) ** 0.5)


def orthogonalised(
    matrices: Sequence[Tensor], coefficients: tuple[float, float, float], steps: int, eps: float
) -> list[Tensor]:
    """For each matrix one with the same singular vectors, and singular values of about 0.7 to 1.2.

    Args:
        matrices: (M, N) each, of any sizes.
        coefficients: a, b and c of the polynomial a I + b A + c A^2 of A = X X^T.
        steps: Times that it is applied.
        eps: Least norm that is divided by.
    """
    a, b, c = coefficients
    wide = [(matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix).float() for matrix in matrices]
    by_height = defaultdict(list)
    for index, matrix in enumerate(wide):
        by_height[len(matrix)].append(index)
    results = list(matrices)
    for height, indices in by_height.items():
        gram = torch.stack([wide[index] @ wide[index].mT for index in indices])
        norms = gram.diagonal(dim1=1, dim2=2).sum(1).sqrt().clamp(min=eps)[:, None, None]
        gram, total = gram / norms.square(), torch.eye(height, device=gram.device) / norms
        for step in range(steps):
            factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            factor.diagonal(dim1=1, dim2=2).add_(a)
            total = factor @ total
            if step < steps - 1:
                gram = factor @ gram @ factor
        for index, product in zip(indices, total, strict=True):
            result = product @ wide[index]
            results[index] = result.mT if matrices[index].shape[0] > matrices[index].shape[1] else result
    return results
