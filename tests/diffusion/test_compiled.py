"""A network made ready for speed computes what it did before."""

import copy

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from malaria_diffusion.diffusion.network.compiled import compile_network, quick_attention
from malaria_diffusion.diffusion.network.normalisation import ChannelwiseGroupNorm
from malaria_diffusion.diffusion.network.unet import PatchUNet, build_network
from malaria_diffusion.diffusion.network.upsampling import MergedUpsample
from malaria_diffusion.diffusion.training.checkpoint import CheckpointError

from .trainings import farthest, state_of


class Layers(nn.Module):
    """One of each kind of which networks consist."""

    def __init__(self):
        super().__init__()
        self.down = Downsample2D(8, use_conv=True, padding=1)
        self.residual = ResnetBlock2D(in_channels=8, out_channels=16, temb_channels=4, groups=4)
        self.attention = Attention(16, heads=2, dim_head=8, norm_num_groups=4, residual_connection=True)
        self.up = MergedUpsample(Upsample2D(16, use_conv=True))

    def forward(self, x, times):
        return self.up(self.attention(self.residual(self.down(x), times)))


@pytest.fixture
def norms():
    """A group normalisation with weights of its own, and its stand-in."""

    def make(channels, groups, affine_noise=0.5):
        torch.manual_seed(0)
        original = nn.GroupNorm(groups, channels, eps=1e-5)
        with torch.no_grad():
            original.weight.add_(affine_noise * torch.randn(channels))
            original.bias.add_(affine_noise * torch.randn(channels))
        return original, ChannelwiseGroupNorm(copy.deepcopy(original))

    return make


def results(norm, x):
    """Output, and the gradients of input, weight and bias, of a loss that weighs all elements differently."""
    x = x.clone().requires_grad_()
    output = norm(x)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output * weights).sum().backward()
    return output.detach(), x.grad, norm.weight.grad, norm.bias.grad


@pytest.mark.parametrize("shape", [(2, 16, 6, 6), (3, 24, 5, 7), (1, 8, 1, 2), (2, 16, 10), (3, 24, 1)], ids=str)
@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_channelwise_norm_is_a_group_norm_with_its_gradients(norms, shape, groups, channels_last):
    original, channelwise = norms(shape[1], groups)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 2 + 0.5
    if channels_last and len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    for one, other in zip(results(original, x), results(channelwise, x), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5 * float(one.abs().max().clamp(min=1)))


def test_a_channelwise_norm_bears_a_large_mean(norms):
    original, channelwise = norms(32, 4)
    x = 20 + torch.randn(4, 32, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = original.double()(x.double()).float()
    assert (channelwise(x) - expected).abs().max() < 1e-3


def test_a_channelwise_norm_bears_a_constant_image(norms):
    original, channelwise = norms(8, 2)
    x = torch.full((1, 8, 4, 4), 3.0)
    assert (channelwise(x) - original(x)).abs().max() < 1e-2


def test_a_channelwise_norm_works_in_mixed_precision_with_the_statistics_of_full(norms):
    original, channelwise = norms(16, 4)
    x = (5 + torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(2))).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = channelwise(x)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), original(x.float()), rtol=2**-7, atol=2**-7)


def test_making_a_network_ready_changes_neither_its_weights_nor_their_names(network_parameters):
    torch.manual_seed(0)
    network = build_network(network_parameters, 8, 2)
    before = copy.deepcopy(network)
    weights = list(network.parameters())
    compile_network(network)
    after = network.state_dict()
    assert list(after) == list(before.state_dict())
    assert all(torch.equal(after[name], value) for name, value in before.state_dict().items())
    assert all(one is other for one, other in zip(network.parameters(), weights, strict=True))
    kinds = [type(module) for module in network.modules()]
    assert not any(issubclass(kind, nn.GroupNorm) for kind in kinds)
    assert kinds.count(ChannelwiseGroupNorm) == sum(isinstance(module, nn.GroupNorm) for module in before.modules())
    x, t, labels = torch.randn(2, 3, 8, 8), torch.tensor([1, 5]), torch.tensor([0, 1])
    with torch.no_grad():  # forward, unlike a call, is not compiled
        found, expected = (model.forward(x, t, class_labels=labels).sample for model in (network, before))
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_quick_attention_is_the_same_attention(network_parameters):
    torch.manual_seed(0)
    network = build_network(network_parameters, 8, 2)
    x, t, labels = torch.randn(2, 3, 8, 8), torch.tensor([1, 5]), torch.tensor([0, 1])
    with torch.no_grad():
        usual = network(x, t, class_labels=labels).sample
        with quick_attention(torch.device("cpu")):
            quick = network(x, t, class_labels=labels).sample
    assert torch.allclose(usual, quick, rtol=0, atol=1e-5)


def test_compiled_layers_are_eager_ones(monkeypatch):
    """Takes some seconds: the compiler itself runs."""
    from torch._inductor import config

    # what the processor says of its vectors is believed, and not tried out in a process for each kind
    monkeypatch.setattr(config.cpp, "vec_isa_ok", True)
    torch.manual_seed(0)
    eager = Layers().to(memory_format=torch.channels_last)
    compiled = copy.deepcopy(eager)
    compile_network(compiled)
    x = torch.randn(2, 8, 8, 8).contiguous(memory_format=torch.channels_last)
    results = []
    for layers in (eager, compiled):
        with quick_attention(x.device):
            y = layers(x, torch.ones(2, 4))
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), list(layers.parameters()))])
    assert not torch.equal(results[0][0], results[1][0])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()) + 1e-5)


def test_compiled_steps_are_those_of_an_eager_training(run, tmp_path, monkeypatch):
    """Traced as they are compiled; what the compiler makes of the layers is asked above."""
    compiled, compile_module = [], nn.Module.compile

    def traced(network, **options):
        compiled.append((network, options))
        compile_module(network, backend="aot_eager", **options)

    monkeypatch.setattr(nn.Module, "compile", traced)
    changes = {"epochs": 1, "learning_rate": 3e-4}
    histories = [run(tmp_path / str(how), compile=how, **changes) for how in (False, True)]
    ((network, options),) = compiled
    assert isinstance(network, PatchUNet)
    assert options == {"dynamic": False}
    assert farthest(tmp_path / "False", tmp_path / "True") < 1e-4
    assert farthest(tmp_path / "False", tmp_path / "True") > 0
    assert histories[1].loss.tolist() == pytest.approx(histories[0].loss.tolist(), rel=1e-4)
    assert state_of(tmp_path / "True")[0].keys() == state_of(tmp_path / "False")[0].keys()
    with pytest.raises(CheckpointError, match=r"training\.compile is True, expected False"):
        run(tmp_path / "True", compile=False, **changes | {"epochs": 2})
