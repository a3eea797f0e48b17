"""The U-Net, and the parameters of all of `ddpm`."""

import pytest
import torch
from diffusers import UNet2DModel
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from malaria_diffusion.diffusion.config import BoundParameters, NetworkParameters, SamplingParameters
from malaria_diffusion.diffusion.network.unet import build_network


@pytest.fixture
def build(network_parameters):
    def build_with(size=8, num_classes=2, unconditional=False, **changes):
        torch.manual_seed(0)
        changed = NetworkParameters(**network_parameters.model_dump() | changes)
        return build_network(changed, size, num_classes, unconditional).eval()

    return build_with


@torch.no_grad()
def answer(network, x_t, t, label):
    return network(x_t, torch.full((len(x_t),), t), class_labels=torch.full((len(x_t),), label)).sample


@pytest.mark.parametrize(("size", "channels"), [(8, [8, 16]), (16, [8, 8, 16]), (10, [8, 16]), (24, [8, 8, 8, 8])])
def test_answer_has_the_shape_of_the_question(build, size, channels):
    x_t = torch.randn(2, 3, size, size)
    output = answer(build(size, channels=channels, attention_sides=[]), x_t, 5, 1)
    assert output.shape == x_t.shape
    assert output.isfinite().all()
    assert output.std() > 0


def attended_sides(network, size):
    """Sides at which blocks on the way down, and on the way up, were seen to attend."""
    down, up = [], []
    for blocks, seen in ((network.down_blocks, down), (network.up_blocks, up)):
        for block in blocks:
            for attention in getattr(block, "attentions", None) or []:
                attention.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(inputs[0].shape[-1]))
    answer(network, torch.randn(1, 3, size, size), 5, 0)
    return sorted(set(down)), sorted(set(up))


@pytest.mark.parametrize("sides", [[], [16], [8], [4], [4, 16], [4, 8, 16]])
def test_attention_is_where_it_was_asked_for(build, sides):
    network = build(16, channels=[8, 16, 8], attention_sides=sides)
    assert attended_sides(network, 16) == (sides, sides)


def test_answer_depends_on_class_timestep_and_image(build):
    network = build(num_classes=3)
    x_t = torch.randn(1, 3, 8, 8)
    outputs = [answer(network, x_t, 5, label) for label in range(3)]
    outputs += [answer(network, x_t, 6, 0), answer(network, x_t + 0.1, 5, 0)]
    for index, output in enumerate(outputs):
        assert all((output - other).abs().max() > 1e-4 for other in outputs[:index])


def test_answer_for_an_image_does_not_depend_on_its_batch(build):
    network = build()
    x_t = torch.randn(4, 3, 8, 8)
    assert torch.allclose(answer(network, x_t, 5, 1)[2:3], answer(network, x_t[2:3], 5, 1), atol=1e-5)


@pytest.mark.parametrize("unconditional", [False, True])
def test_a_class_too_many_is_an_error(build, unconditional):
    with pytest.raises(IndexError):
        answer(build(num_classes=2, unconditional=unconditional), torch.randn(1, 3, 8, 8), 5, 2 + unconditional)


def test_an_unconditional_network_knows_one_class_more_with_an_answer_of_its_own(build):
    network = build(num_classes=2, unconditional=True)
    x_t = torch.randn(1, 3, 8, 8)
    free = answer(network, x_t, 5, 2)
    assert all((free - answer(network, x_t, 5, label)).abs().max() > 1e-4 for label in range(2))


@pytest.mark.parametrize(("size", "channels"), [(9, [8, 16]), (10, [8, 8, 16]), (8, [8] * 5)])
def test_sizes_that_cannot_be_halved_are_refused(build, size, channels):
    with pytest.raises(ValueError, match=rf"images of {size} px cannot be halved {len(channels) - 1} times.*channels"):
        build(size, channels=channels)


@torch.no_grad()
@pytest.mark.parametrize("patch", [2, 4])
def test_a_network_of_patches_is_a_plain_one_of_unshuffled_images(build, patch):
    network = build(16, patch_size=patch, attention_sides=[])
    assert network.patch_size == patch
    x_t = torch.randn(3, 3, 16, 16)
    t, labels = torch.tensor([0, 5, 9]), torch.tensor([0, 1, 0])
    unshuffled = functional.pixel_unshuffle(x_t, patch)
    plain = network.plain()
    assert type(plain) is UNet2DModel
    assert plain.config.sample_size == 16 // patch
    expected = functional.pixel_shuffle(plain(unshuffled, t, class_labels=labels).sample, patch)
    assert torch.allclose(network(x_t, t, class_labels=labels).sample, expected, atol=1e-5)
    assert expected.std() > 0


def test_attention_sides_are_those_of_the_patches(build):
    assert attended_sides(build(16, patch_size=2, attention_sides=[8, 4]), 16) == ([4, 8], [4, 8])
    with pytest.raises(ValueError, match=r"attention_sides \[16\] do not occur.*sides \[8, 4\]"):
        build(16, patch_size=2, attention_sides=[16])


@pytest.mark.parametrize(("size", "patch"), [(8, 3), (9, 2), (10, 4)])
def test_patches_that_do_not_fill_the_side_are_refused(build, size, patch):
    with pytest.raises(ValueError, match=rf"images of {size} px .*{patch} x {patch} px.*patch_size"):
        build(size, patch_size=patch, attention_sides=[])


def test_patches_that_cannot_be_halved_are_refused(build):
    with pytest.raises(ValueError, match=r"images of 12 px in patches of 4 px cannot be halved 1 times"):
        build(12, patch_size=4, attention_sides=[])


def test_attention_sides_that_do_not_occur_are_refused(build):
    with pytest.raises(ValueError, match=r"attention_sides \[2, 16\] do not occur.*sides \[8, 4\]"):
        build(8, attention_sides=[16, 4, 2])


@pytest.mark.parametrize(("head", "heads"), [(4, {2, 4}), (8, {1, 2}), (32, {1, 2})])
def test_heads_have_the_channels_asked_for_or_those_of_the_narrowest_level(build, head, heads):
    network = build(channels=[8, 16], attention_sides=[8, 4], attention_head_channels=head)
    assert {layer.heads for layer in network.modules() if type(layer).__name__ == "Attention"} == heads
    assert answer(network, torch.randn(1, 3, 8, 8), 5, 0).isfinite().all()


@torch.no_grad()
def test_scale_and_shift_can_silence_what_a_shift_cannot(build):
    """The embedding's weights at -1 on the scale: a residual layer's second half gets nothing."""
    for asked in (False, True):
        network = build(scale_shift=asked)
        layer = network.down_blocks[0].resnets[0]
        assert layer.time_emb_proj.out_features == layer.out_channels * (2 if asked else 1)
        layer.time_emb_proj.weight.zero_()
        layer.time_emb_proj.bias.zero_()
        layer.time_emb_proj.bias[: layer.out_channels] = -1
        seen = []
        layer.conv2.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(inputs[0]))
        answer(network, torch.randn(1, 3, 8, 8), 5, 0)
        assert bool((seen[0] == 0).all()) == asked


def test_dropout_is_in_every_residual_layer(build):
    for asked in (0.0, 0.25):
        network = build(dropout=asked)
        rates = [layer.dropout.p for layer in network.modules() if type(layer).__name__ == "ResnetBlock2D"]
        assert len(rates) >= 6
        assert set(rates) == {asked}


def test_group_normalisations_have_the_groups_asked_for(build):
    groups = {layer.num_groups for layer in build(norm_groups=2).modules() if isinstance(layer, nn.GroupNorm)}
    assert groups == {2}


@pytest.mark.parametrize(
    ("channels", "sides"), [([4, 4], []), ([8, 4], []), ([4, 8], [8]), ([4, 8], []), ([12, 20], [8, 4])]
)
def test_narrow_networks_work_or_are_refused_by_name(build, channels, sides):
    try:
        network = build(channels=channels, attention_sides=sides)
    except ValueError as error:
        assert "channels" in str(error)
    else:
        assert answer(network, torch.randn(1, 3, 8, 8), 5, 0).shape == (1, 3, 8, 8)


BAD_PROCESS = [
    ({"timesteps": 1}, "timesteps"),
    ({"schedule": "sigmoid"}, "schedule"),
    ({"beta_start": 0.0}, "beta_start"),
    ({"beta_end": 1.0}, "beta_end"),
    ({"beta_start": 0.4, "beta_end": 0.3}, r"beta_start \(0\.4\).*beta_end \(0\.3\)"),
    ({"prediction": "noise"}, "prediction"),
]
BAD_NETWORK = [
    ({"channels": [8, 18]}, r"channels.*18.*norm_groups"),
    ({"channels": [8, -8]}, "channels"),
    ({"channels": [8, 0]}, "channels"),
    ({"channels": [8]}, "channels"),
    ({"layers_per_block": 0}, "layers_per_block"),
    ({"norm_groups": 0}, "norm_groups"),
    ({"dropout": 1.0}, "dropout"),
    ({"dropout": -0.1}, "dropout"),
    ({"patch_size": 0}, "patch_size"),
    ({"attention_head_channels": 0}, "attention_head_channels"),
    ({"patch_size": 9}, "patch_size"),
]
BAD_TRAINING = [
    ({"epochs": 5, "decay_epochs": 4}, r"epochs \(5\).*decay_epochs \(4\)"),
    ({"epochs": 0}, "epochs"),
    ({"batch_size": 0}, "batch_size"),
    ({"accumulation": 0}, "accumulation"),
    ({"loss": "l1"}, "loss"),
    ({"label_dropout": 1.0}, "label_dropout"),
    ({"label_dropout": -0.1}, "label_dropout"),
    ({"optimizer": "sgd"}, "optimizer"),
    ({"learning_rate": 0}, "learning_rate"),
    ({"weight_decay": -0.1}, "weight_decay"),
    ({"weight_decay": 1.0}, "weight_decay"),
    ({"warmup_steps": -1}, "warmup_steps"),
    ({"gradient_clip": 0}, "gradient_clip"),
    ({"ema_decay": 1.0}, "ema_decay"),
    ({"ema_decay": []}, r"ema_decay must be a number or a list of different ones, found \[\]"),
    ({"ema_decay": [0.9, 0.99, 0.9]}, r"different ones, found \[0\.9, 0\.99, 0\.9\]"),
    ({"ema_decay": [0.9, 1.0]}, "ema_decay"),
    ({"ema_decay": [-0.1]}, "ema_decay"),
    ({"timestep_draw": "sorted"}, "timestep_draw"),
    ({"log_snr_deviation": 0}, "log_snr_deviation"),
    ({"log_snr_deviation": 2.0, "loss": "bound"}, r"log_snr_deviation \(2\.0\).*'bound'.*null"),
    ({"precision": "float16"}, "precision"),
    ({"compile": "always"}, "compile"),
    ({"device": "tpu"}, "device"),
    ({"seed": -1}, "seed"),
    ({"quality_epochs": 0}, "quality_epochs"),
    ({"epochs": 2, "quality_epochs": 1, "guide_epochs": 3}, r"guide_epochs \(3\) exceeds epochs \(2\)"),
    ({"guide_epochs": 0}, "guide_epochs"),
    ({"epochs": 2, "quality_epochs": 3}, r"quality_epochs \(3\) exceeds epochs \(2\)"),
    ({"quality_images": 1}, "quality_images"),
]
BAD_SAMPLING = [
    ({"evaluations": 10}, r"evaluations.*solver=ancestral, evaluations=10"),
    ({"solver": "ddim"}, r"evaluations.*solver=ddim, evaluations=None"),
    ({"solver": "dpm-solver++"}, r"evaluations.*solver=dpm-solver\+\+, evaluations=None"),
    ({"solver": "unipc"}, r"evaluations.*solver=unipc, evaluations=None"),
    ({"solver": "unipc", "evaluations": 3}, "evaluations"),
    ({"solver": "euler", "evaluations": 10}, "solver"),
    ({"variance": "learned"}, "variance"),
    ({"clipping": True}, "clipping"),
    ({"guidance": -1.0}, "guidance"),
    ({"count": -1}, r"count.*-1"),
    ({"count": {"dark": 3, "bright": -1}}, r"count.*-1"),
    ({"count": 0}, "count"),
    ({"count": {"dark": 0, "bright": 0}}, "count"),
    ({"count": {}}, "count"),
    ({"batch_size": 0}, "batch_size"),
    ({"seed": -1}, "seed"),
]
BAD_BOUND = [({"images": 0}, "images"), ({"steps": 0}, "steps"), ({"seed": -1}, "seed")]


@pytest.fixture
def bound_parameters():
    return BoundParameters(images=4, steps=3, seed=0)


@pytest.mark.parametrize(
    ("fixture", "changes", "message"),
    [("process", *case) for case in BAD_PROCESS]
    + [("network_parameters", *case) for case in BAD_NETWORK]
    + [("parameters", *case) for case in BAD_TRAINING]
    + [("sampling_parameters", *case) for case in BAD_SAMPLING]
    + [("bound_parameters", *case) for case in BAD_BOUND],
)
def test_nonsense_is_refused_by_name(request, fixture, changes, message):
    good = request.getfixturevalue(fixture)
    with pytest.raises(ValidationError, match=message):
        type(good)(**good.model_dump() | changes)


FIXTURES = ["process", "network_parameters", "parameters", "sampling_parameters", "bound_parameters"]


@pytest.mark.parametrize("fixture", FIXTURES)
def test_an_unknown_key_is_refused_by_name(request, fixture):
    good = request.getfixturevalue(fixture)
    with pytest.raises(ValidationError, match="learningrate"):
        type(good)(**good.model_dump() | {"learningrate": 0.1})


def test_sampling_needs_to_be_told_nothing():
    assert SamplingParameters() == SamplingParameters(count=64, solver="dpm-solver++", evaluations=20, guidance=1.0)


@pytest.mark.parametrize("fixture", [name for name in FIXTURES if name != "sampling_parameters"])
def test_every_missing_key_is_named(request, fixture):
    good = request.getfixturevalue(fixture)
    for key, field in type(good).model_fields.items():
        if not field.is_required():  # it is younger than models that are still read
            assert getattr(type(good)(**good.model_dump(exclude={key})), key) == field.default
            continue
        with pytest.raises(ValidationError, match=rf"(?s){key}.*Field required"):
            type(good)(**good.model_dump(exclude={key}))


@pytest.mark.parametrize("fixture", FIXTURES)
def test_parameters_survive_json_and_cannot_be_changed(request, fixture):
    good = request.getfixturevalue(fixture)
    assert type(good).model_validate_json(good.model_dump_json()) == good
    with pytest.raises(ValidationError, match="frozen"):
        setattr(good, next(iter(type(good).model_fields)), 1)
