"""Training state on disk."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from malaria_diffusion.ddpm import checkpoint
from malaria_diffusion.ddpm.checkpoint import (
    CheckpointError,
    load_progress,
    load_tensors,
    pack_state,
    save_checkpoint,
    unpack_state,
)
from malaria_diffusion.ddpm.network import build_network

PROGRESS = {"step": 7, "loss": 0.1 + 0.2, "history": [{"val_loss": None, "epoch": 1}]}


class State:
    """A network, its average and its optimizer, as a training has them."""

    def __init__(self, network_parameters, seed, kind=torch.optim.Adam):
        torch.manual_seed(seed)
        self.network = build_network(network_parameters, 8, 2).to(memory_format=torch.channels_last)
        self.ema = {name: torch.randn_like(value) for name, value in self.network.named_parameters()}
        self.optimizer = kind(self.network.parameters(), lr=0.01, fused=True)

    def step(self, seed):
        torch.manual_seed(seed)
        x_t = torch.randn(2, 3, 8, 8)
        self.optimizer.zero_grad()
        self.network(x_t, torch.tensor([1, 2]), class_labels=torch.tensor([0, 1])).sample.square().mean().backward()
        self.optimizer.step()

    def packed(self):
        return copy.deepcopy(pack_state(self.network, self.ema, self.optimizer))


@pytest.fixture
def trained(network_parameters):
    state = State(network_parameters, 0)
    state.step(0)
    state.step(1)
    return state


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


def equal(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_everything_comes_back_as_it_was(trained, path):
    packed = trained.packed()
    save_checkpoint(path, packed, PROGRESS)
    assert load_progress(path) == PROGRESS
    assert equal(load_tensors(path), packed)
    for part in ("network.", "ema.", "optimizer."):
        assert any(name.startswith(part) for name in packed)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_restored_state_goes_on_like_the_original(network_parameters, path, kind):
    original, other = (State(network_parameters, seed, kind) for seed in (0, 1))
    original.step(0)
    original.step(1)
    save_checkpoint(path, original.packed(), PROGRESS)
    with torch.no_grad():
        unpack_state(load_tensors(path), other.network, other.ema, other.optimizer)
    assert equal(other.packed(), original.packed())
    before = original.packed()
    for seed in (2, 3):
        original.step(seed)
        other.step(seed)
    assert equal(other.packed(), original.packed())
    assert not equal(original.packed(), before)


def test_restored_moments_lie_in_memory_as_their_weights_do(trained, network_parameters, path):
    """Fused optimizers walk weights and moments through memory side by side."""
    save_checkpoint(path, trained.packed(), PROGRESS)
    other = State(network_parameters, 1)
    with torch.no_grad():
        unpack_state(load_tensors(path), other.network, other.ema, other.optimizer)
    unlike = [
        (tuple(weight.shape), name)
        for weight, state in other.optimizer.state.items()
        for name, moment in state.items()
        if moment.dim() and moment.stride() != weight.stride()
    ]
    assert unlike == []


def test_a_fresh_state_can_be_packed_and_restored(network_parameters, path):
    fresh, other = (State(network_parameters, seed) for seed in (0, 1))
    save_checkpoint(path, fresh.packed(), PROGRESS)
    with torch.no_grad():
        unpack_state(load_tensors(path), other.network, other.ema, other.optimizer)
    fresh.step(0)
    other.step(0)
    assert equal(other.packed(), fresh.packed())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(trained, path, share):
    save_checkpoint(path, trained.packed(), PROGRESS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for load in (load_progress, load_tensors):
        with pytest.raises(CheckpointError, match=rf"{path.name}: not a whole checkpoint"):
            load(path)


@pytest.mark.parametrize("garbage", [b"garbage", b"\0" * 1000, b"\xff" * 1000, b"{}" * 500])
def test_garbage_is_named(path, garbage):
    path.write_bytes(garbage)
    for load in (load_progress, load_tensors):
        with pytest.raises(CheckpointError, match=path.name):
            load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_another_safetensors_file_is_named(path, metadata):
    save_file({"weight": torch.ones(3)}, path, metadata=metadata)
    for load in (load_progress, load_tensors):
        with pytest.raises(CheckpointError, match=rf"{path.name}: found format .*expected"):
            load(path)


def test_a_folder_in_its_place_is_named(path):
    path.mkdir()
    with pytest.raises(CheckpointError, match=path.name):
        load_progress(path)


def test_a_crash_while_writing_leaves_the_former_file(trained, path, monkeypatch, half_written):
    save_checkpoint(path, trained.packed(), PROGRESS)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half_written)
        with pytest.raises(OSError, match="no space left"):
            save_checkpoint(path, trained.packed(), PROGRESS | {"step": 8})
    assert path.read_bytes() == before
    assert load_progress(path) == PROGRESS
    save_checkpoint(path, trained.packed(), PROGRESS | {"step": 9})
    assert load_progress(path)["step"] == 9
    assert list(path.parent.iterdir()) == [path]


def test_a_first_crash_leaves_no_checkpoint(trained, path, monkeypatch, half_written):
    monkeypatch.setattr(checkpoint, "save_file", half_written)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, trained.packed(), PROGRESS)
    assert not path.exists()
