"""Orthogonalising many matrices together is orthogonalising each."""

import pytest
import torch

from malaria_diffusion.diffusion.training.muon import TogetherMuon, orthogonalised

COEFFICIENTS = (3.4445, -4.775, 2.0315)


def one_by_one(matrix, steps=5):
    """The iteration as it was published, in double precision."""
    a, b, c = COEFFICIENTS
    x = matrix.double()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spread(height, width, smallest):
    """A matrix whose singular values fall from 1 to `smallest`."""
    u, _, v = torch.linalg.svd(drawn(height, width), full_matrices=False)
    return u * torch.logspace(0, torch.log10(torch.tensor(smallest)).item(), len(v)) @ v


@pytest.mark.parametrize("steps", [1, 5])
def test_each_of_many_is_what_it_would_be_alone(steps):
    shapes = [(8, 30), (8, 8), (30, 8), (8, 72), (4, 9), (9, 4), (1, 5), (5, 1)]
    matrices = [drawn(*shape, seed=seed) * 10.0 ** (seed - 4) for seed, shape in enumerate(shapes)]
    for matrix, found in zip(matrices, orthogonalised(matrices, COEFFICIENTS, steps, 1e-7), strict=True):
        assert found.shape == matrix.shape
        assert torch.allclose(found.double(), one_by_one(matrix, steps), atol=1e-4)


@pytest.mark.parametrize("smallest", [0.1, 1e-3, 1e-6])
def test_small_singular_values_do_no_harm(smallest):
    matrix = spread(16, 40, smallest)
    (found,) = orthogonalised([matrix], COEFFICIENTS, 5, 1e-7)
    truth = one_by_one(matrix)
    assert float((found.double() - truth).norm() / truth.norm()) < 0.01
    assert torch.linalg.svdvals(found).max() < 1.3


def test_of_nothing_nothing_comes_and_of_one_direction_one():
    zero, line = torch.zeros(4, 6), drawn(4, 1) @ drawn(1, 6)
    nothing, one = orthogonalised([zero, line], COEFFICIENTS, 5, 1e-7)
    assert torch.equal(nothing, zero)
    values = torch.linalg.svdvals(one)
    assert 0.6 < values[0] < 1.3
    assert values[1:].max() < 1e-3


def test_a_step_is_torchs_with_decay_and_without_what_has_no_gradient():
    ours, theirs = ([torch.nn.Parameter(drawn(8, 20, seed=seed)) for seed in range(3)] for _ in range(2))
    optimizer = TogetherMuon(ours, 0.01, 0.1)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(4):
        for one, other in zip(ours[:2], theirs[:2], strict=True):
            one.grad = drawn(8, 20, seed=10 + seed)
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=3e-4)  # theirs is in bfloat16
    assert torch.equal(ours[2], drawn(8, 20, seed=2))
    assert optimizer.state_dict()["state"].keys() == reference.state_dict()["state"].keys()


def test_closures_are_refused():
    with pytest.raises(ValueError, match="closure"):
        TogetherMuon([torch.nn.Parameter(drawn(2, 3))], 0.01, 0.0).step(lambda: 0.0)
