"""Group normalisation with a gradient of our own is PyTorch's."""

import copy

import pytest
import torch
from torch import nn

from malaria_diffusion.diffusion.network.normalisation import NarrowGroupNorm, Normalise
from malaria_diffusion.diffusion.network.unet import build_network

SMALL = [((2, 8, 4, 4), 4), ((1, 12, 5, 3), 2), ((3, 8, 1, 1), 2)]
LARGER = [((3, 32, 8, 8), 8), ((2, 24, 5, 7), 8), ((1, 96, 16, 16), 8), ((1, 32, 32, 32), 8)]


def images(shape, dtype, mean=0.5):
    """Images in channels-last memory, and weights for what is made of them."""
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(shape, generator=generator) + offset for offset in (mean, 0))
    return (each.to(dtype).contiguous(memory_format=torch.channels_last) for each in (x, dy))


def norms(channels, groups):
    torch.manual_seed(1)
    original = nn.GroupNorm(groups, channels)
    nn.init.normal_(original.weight)
    nn.init.normal_(original.bias)
    return original, NarrowGroupNorm(copy.deepcopy(original))


def results(norm, x, dy, mixed=True):
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        answer = norm(x)
    return answer.detach(), *torch.autograd.grad(answer, [x, norm.weight, norm.bias], dy.to(answer.dtype))


@pytest.mark.parametrize(("shape", "groups"), SMALL, ids=str)
def test_its_gradient_is_that_of_the_formula(shape, groups):
    x, _ = images(shape, torch.float64)
    weight, bias = (torch.randn(shape[1], dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: Normalise.apply(x, weight, bias, groups, 1e-5), (x.requires_grad_(), weight, bias)
    )


@pytest.mark.parametrize(("shape", "groups"), LARGER, ids=str)
@pytest.mark.parametrize("mean", [0.5, 20])
def test_in_mixed_precision_it_answers_as_pytorch_s_with_gradients_as_close_to_the_truth(shape, groups, mean):
    original, narrow = norms(shape[1], groups)
    x, dy = images(shape, torch.bfloat16, mean)
    truth = results(original.double(), x.double(), dy.double(), mixed=False)
    theirs, ours = results(original.float(), x, dy), results(narrow, x, dy)
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(ours[0], theirs[0], rtol=2**-7, atol=1e-3)  # a bit of bf16, where sums in another order
    assert (ours[0] != theirs[0]).float().mean() < 0.01
    for one, other, exact in zip(ours[1:], theirs[1:], truth[1:], strict=True):
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        # bf16 keeps eight bits: 0.002 of what is rounded once, a few times that of what is rounded on its way
        assert float((one.double() - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize(
    ("channels", "dtype", "layout"),
    [
        (128, torch.bfloat16, torch.channels_last),
        (32, torch.float32, torch.channels_last),
        (32, torch.bfloat16, torch.contiguous_format),
    ],
    ids=["wide groups", "full precision", "pixels innermost"],
)
def test_elsewhere_it_is_pytorch_s(channels, dtype, layout):
    original, narrow = norms(channels, 8)
    x, dy = (each.contiguous(memory_format=layout) for each in images((2, channels, 4, 4), dtype))
    for one, other in zip(results(original, x, dy), results(narrow, x, dy), strict=True):
        assert torch.equal(one, other)


def test_networks_normalise_so_and_keep_names(network_parameters):
    network = build_network(network_parameters, 8, 2)
    kinds = [type(module) for module in network.modules()]
    assert NarrowGroupNorm in kinds
    assert nn.GroupNorm not in kinds
    assert list(network.plain().state_dict()) == list(network.state_dict())


def test_images_stay_with_their_channels_innermost_through_a_training_step(network_parameters):
    network = build_network(network_parameters, 8, 2).to(memory_format=torch.channels_last).train()
    seen = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    network(x, torch.tensor([1, 5]), class_labels=torch.tensor([0, 1]))
    assert len(seen) > 8
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in seen)
