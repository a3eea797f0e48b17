"""Muon beside Adam."""

import copy

import pytest
import torch

from malaria_diffusion.diffusion.config import TrainingParameters
from malaria_diffusion.diffusion.training.objective import Objective
from malaria_diffusion.diffusion.training.optimizer import MuonAndAdam, build_optimizer, state_shapes


@pytest.fixture
def make(process, network_parameters, parameters):
    def make_with(last=torch.channels_last, **changes):
        torch.manual_seed(0)
        settings = TrainingParameters(
            **parameters.model_dump() | {"optimizer": "muon", "learning_rate": 0.01} | changes
        )
        objective = Objective(process, network_parameters, settings, 8, 2, torch.float32).to(memory_format=last)
        return objective, build_optimizer(objective, settings)

    return make_with


def random_gradients(objective, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for weight in objective.parameters():
        drawn = torch.randn(weight.shape, generator=generator)
        weight.grad = drawn.contiguous(memory_format=torch.channels_last) if drawn.ndim == 4 else drawn


def moved(objective, optimizer, seed=1):
    before = copy.deepcopy(dict(objective.named_parameters()))
    random_gradients(objective, seed)
    optimizer.step()
    return {name: (weight - before[name]).detach() for name, weight in objective.named_parameters()}


def by_muon(name, update):
    return ("conv" in name and update.ndim == 4 and "conv_in" not in name and "conv_out" not in name) or (
        update.ndim == 2 and ".attentions." in name
    )


def test_every_weight_is_moved_once(make):
    objective, optimizer = make()
    found = moved(objective, optimizer)
    assert all(update.abs().max() > 0 for update in found.values())
    weights = sum(weight.numel() for group in optimizer.param_groups for weight in group["params"])
    assert weights == sum(weight.numel() for weight in objective.parameters())


def test_updates_of_convolutions_are_orthogonal_and_as_large_as_adams(make):
    found = moved(*make())
    matrices = {name: update.flatten(1) for name, update in found.items() if by_muon(name, update)}
    assert len(matrices) >= 10
    for name, update in matrices.items():
        values = torch.linalg.svdvals(update)
        assert values.min() > 0.4 * values.max(), name  # five steps of Newton and Schulz leave about 0.7 to 1.2
        # an orthogonal matrix times 0.2 sqrt(longer side): elements of 0.2 on average, as Adam's in practice
        assert update.square().mean().sqrt() == pytest.approx(0.01 * 0.2, rel=0.3), name


def test_all_else_is_moved_as_by_adam(make):
    objective, optimizer = make()
    found = {name: update for name, update in moved(objective, optimizer).items() if not by_muon(name, update)}
    assert len(found) >= 20
    for name, update in found.items():
        assert torch.allclose(update.abs(), torch.full_like(update, 0.005), rtol=1e-3), name  # of the first step


def test_a_convolution_is_torchs_muon_of_its_matrix(make):
    """Whatever the order of the columns in memory."""
    objective, optimizer = make()
    name, weight = next((n, w) for n, w in objective.named_parameters() if n.endswith("resnets.0.conv1.weight"))
    matrix = torch.nn.Parameter(weight.detach().flatten(1).clone())
    reference = torch.optim.Muon([matrix], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        random_gradients(objective, seed)
        matrix.grad = weight.grad.flatten(1).clone()
        optimizer.step()
        reference.step()
    # Newton and Schulz run in bfloat16, where the order of sums shows
    assert torch.allclose(weight.flatten(1), matrix, atol=3e-4), name
    assert (weight.flatten(1) - matrix).norm() < 0.02 * (matrix - matrix.mean()).norm()


def test_state_goes_on_where_it_was(make):
    one, optimizer = make()
    for seed in range(2):
        moved(one, optimizer, seed)
    stored = copy.deepcopy(optimizer.state_dict())
    shapes = {
        f"{index}.{name}": tensor.shape for index, state in stored["state"].items() for name, tensor in state.items()
    }
    assert shapes == state_shapes(optimizer)
    other, again = make()
    other.load_state_dict(one.state_dict())
    again.load_state_dict(stored)
    expected, found = moved(one, optimizer, 5), moved(other, again, 5)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_weight_decay_shrinks_both(make):
    plain, decayed = moved(*make()), moved(*make(weight_decay=0.5))
    differing = [name for name in plain if not torch.equal(plain[name], decayed[name])]
    assert any(by_muon(name, plain[name]) for name in differing)


def test_weights_that_would_be_copied_are_refused(make):
    with pytest.raises(ValueError, match="channels last"):
        make(last=torch.contiguous_format)


def test_adam_is_torchs_own(make):
    assert isinstance(make(optimizer="adam")[1], torch.optim.Adam)
    assert isinstance(make(optimizer="adamw")[1], torch.optim.AdamW)
    assert isinstance(make()[1], MuonAndAdam)
