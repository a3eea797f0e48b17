"""Upsampling in one convolution is diffusers' upsampling in two steps."""

import copy

import pytest
import torch
from diffusers.models.upsampling import Upsample2D

from malaria_diffusion.diffusion.network.unet import PatchUNet, build_network
from malaria_diffusion.diffusion.network.upsampling import MergedUpsample, merged


@pytest.fixture
def original():
    torch.manual_seed(0)
    return Upsample2D(6, use_conv=True, out_channels=5)


def results(upsample, x):
    """Output, and the gradients of a loss that weighs all elements differently."""
    x = x.clone().requires_grad_()
    output = upsample(x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return output.detach(), *torch.autograd.grad((output * weights).sum(), [x, *upsample.parameters()])


@pytest.mark.parametrize("shape", [(2, 6, 4, 4), (3, 6, 5, 7), (70, 6, 1, 2)], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_one_convolution_is_two_steps_with_their_gradients(original, shape, channels_last):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for one, other in zip(results(original, x), results(MergedUpsample(original), x), strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5 * float(one.abs().max()))


def test_a_size_asked_for_is_the_size(original):
    x = torch.randn(1, 6, 4, 4)
    assert torch.equal(MergedUpsample(original)(x, (7, 9)), original(x, (7, 9)))
    assert original(x, (7, 9)).shape == (1, 5, 7, 9)


def test_a_kernel_of_ones_meets_each_value_as_often_as_it_is_spread():
    kernel = merged(torch.ones(1, 1, 3, 3))
    once = torch.tensor([1.0, 2.0, 2.0, 1.0])
    assert torch.equal(kernel[0, 0], once[:, None] * once)


def test_networks_upsample_at_once_and_keep_names_and_configuration(network_parameters):
    torch.manual_seed(0)
    network = build_network(network_parameters, 8, 2).eval()
    kinds = [type(module) for module in network.modules()]
    assert MergedUpsample in kinds
    assert Upsample2D not in kinds
    plain = network.plain()
    assert list(plain.state_dict()) == list(network.state_dict())
    assert dict(plain.config)["block_out_channels"] == dict(network.config)["block_out_channels"]
    x, t, labels = torch.randn(2, 3, 8, 8), torch.tensor([1, 5]), torch.tensor([0, 1])
    with torch.no_grad():
        assert torch.allclose(
            network(x, t, class_labels=labels).sample, plain(x, t, class_labels=labels).sample, atol=1e-5
        )


def test_copies_and_loaded_networks_upsample_with_weights_of_their_own(network_parameters, tmp_path):
    network = build_network(network_parameters, 8, 2)
    network.plain().save_pretrained(tmp_path)
    for other in (copy.deepcopy(network), PatchUNet.from_pretrained(tmp_path, local_files_only=True)):
        (here,) = [module for module in network.modules() if type(module) is MergedUpsample]
        (there,) = [module for module in other.modules() if type(module) is MergedUpsample]
        assert torch.equal(here.conv.weight, there.conv.weight)
        assert here.conv.weight is not there.conv.weight
        assert here._modules is not there._modules
