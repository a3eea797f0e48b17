"""Training state on disk."""

import copy
import math
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.training import checkpoint
from malaria_diffusion.diffusion.training.checkpoint import (
    CheckpointError,
    load_progress,
    load_tensors,
    pack_state,
    save_checkpoint,
    unpack_state,
)

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
        return copy.deepcopy(pack_state(self.network, {0.9: self.ema}, self.optimizer))


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
    for part in ("weights.", "ema.", "optimizer."):
        assert any(name.startswith(part) for name in packed)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_a_restored_state_goes_on_like_the_original(network_parameters, path, kind):
    original, other = (State(network_parameters, seed, kind) for seed in (0, 1))
    original.step(0)
    original.step(1)
    save_checkpoint(path, original.packed(), PROGRESS)
    unpack_state(load_tensors(path), other.network, {0.9: other.ema}, other.optimizer)
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
    unpack_state(load_tensors(path), other.network, {0.9: other.ema}, other.optimizer)
    unlike = [
        (tuple(weight.shape), name)
        for weight, state in other.optimizer.state.items()
        for name, moment in state.items()
        if moment.dim() and moment.stride() != weight.stride()
    ]
    assert unlike == []


def test_two_groups_of_weights_come_back_in_their_order(network_parameters, path):
    """As a network and its schedule have them."""

    def build(seed):
        state = State(network_parameters, seed)
        weights = list(state.network.parameters())
        groups = [{"params": weights[:7], "weight_decay": 0.1}, {"params": weights[7:]}]
        state.optimizer = torch.optim.Adam(groups, lr=0.01, fused=True)
        return state

    original, other = build(0), build(1)
    original.step(0)
    save_checkpoint(path, original.packed(), PROGRESS)
    unpack_state(load_tensors(path), other.network, {0.9: other.ema}, other.optimizer)
    original.step(1)
    other.step(1)
    assert equal(other.packed(), original.packed())


def without(tensors, name):
    return {other: tensor for other, tensor in tensors.items() if other != name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda packed: without(packed, "weights.conv_in.bias"),
            r"weights\.conv_in\.bias is absent, .*\(8,\)",
        ),
        (lambda packed: without(packed, "ema.conv_in.bias"), r"ema\.conv_in\.bias is absent"),
        (lambda packed: without(packed, "optimizer.1.step"), r"optimizer\.1\.step is absent, expected of shape \(\)"),
        (lambda packed: without(packed, "optimizer.0.exp_avg"), r"optimizer\.0\.exp_avg is absent"),
        (
            lambda packed: packed | {"ema.conv_in.bias": torch.ones(1)},
            r"ema\.conv_in\.bias is of shape \(1,\)",
        ),
        (lambda packed: packed | {"optimizer.1.exp_avg_sq": torch.ones(1)}, r"optimizer\.1\.exp_avg_sq is of shape"),
        (lambda packed: packed | {"optimizer.99999.step": torch.ones(())}, r"99999\.step .*expected absent"),
        (lambda packed: packed | {"other": torch.ones(())}, "other is of shape"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(trained, network_parameters, change, told):
    other = State(network_parameters, 1)
    other.step(1)
    before = other.packed()
    with pytest.raises(ValueError, match=told):
        unpack_state(change(trained.packed()), other.network, {0.9: other.ema}, other.optimizer)
    assert equal(other.packed(), before)


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


def test_no_file_in_its_place_is_named(path):
    with pytest.raises(CheckpointError, match=path.name):
        load_progress(path)


def test_a_flipped_bit_anywhere_is_found(trained, path):
    """In the length, the names, the progress or the tensors; what is read is never wrong."""
    packed = trained.packed()
    save_checkpoint(path, packed, PROGRESS)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8
    generator = np.random.default_rng(0)
    metadata = whole.index(b"__metadata__"), whole.index(b"__metadata__") + 600
    places = [*range(8), *generator.integers(*metadata, 60), *generator.integers(8, header, 60)]
    places += generator.integers(header, len(whole), 40).tolist()
    found = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            progress, tensors = load_progress(path), load_tensors(path)
        except CheckpointError as error:
            assert path.name in str(error)
            found += 1
        else:  # blanks that fill up the header, or the like
            assert progress == PROGRESS
            assert equal(tensors, packed)
    assert found > 0.9 * len(places)


def test_numbers_of_the_progress_come_back_to_the_last_bit(path):
    numbers = [*np.random.default_rng(0).standard_normal(1000).tolist(), math.inf, 5e-324, 2**63]
    save_checkpoint(path, {"x": torch.ones(1)}, {"numbers": numbers})
    assert load_progress(path)["numbers"] == numbers


# --- while writing ---


def test_a_crash_while_writing_leaves_the_former_file(trained, path, monkeypatch, half_written):
    save_checkpoint(path, trained.packed(), PROGRESS)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", half_written)
        with pytest.raises(CheckpointError, match=r"could not be written .*no space left.*the checkpoint before it is"):
            save_checkpoint(path, trained.packed(), PROGRESS | {"step": 8})
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before
    assert load_progress(path) == PROGRESS
    save_checkpoint(path, trained.packed(), PROGRESS | {"step": 9})
    assert load_progress(path)["step"] == 9
    assert list(path.parent.iterdir()) == [path]


def test_a_first_crash_leaves_no_checkpoint(trained, path, monkeypatch, half_written):
    monkeypatch.setattr(checkpoint, "save_file", half_written)
    with pytest.raises(CheckpointError, match=r"could not be written .*there is none before it.*Free space for \d+ MB"):
        save_checkpoint(path, trained.packed(), PROGRESS)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(trained, path):
    missing = path.parent / "missing" / path.name
    with pytest.raises(CheckpointError, match=rf"missing/{path.name}: could not be written"):
        save_checkpoint(missing, trained.packed(), PROGRESS)


FULL_DISK = """
import sys
from pathlib import Path
import torch
from malaria_diffusion.diffusion.training.checkpoint import CheckpointError, load_progress, load_tensors
from malaria_diffusion.diffusion.training.checkpoint import save_checkpoint

path = Path(sys.argv[1])
save_checkpoint(path, {"x": torch.zeros(1000)}, {"step": 1})
before = path.read_bytes()
try:
    save_checkpoint(path, {"x": torch.ones(1_000_000)}, {"step": 2})
except CheckpointError as error:
    print(error)
assert path.read_bytes() == before
assert load_progress(path) == {"step": 1}
assert torch.equal(load_tensors(path)["x"], torch.zeros(1000))
assert list(path.parent.iterdir()) == [path], list(path.parent.iterdir())
"""


def says_that_there_is_no_room(text, path):
    """What is said when 4 MB were to be written where 1 MB is left."""
    assert f"{path}: could not be written (" in text
    assert "the checkpoint before it is untouched. Free space for 4 MB and run the same command again" in text


@pytest.mark.skipif(sys.platform == "win32", reason="no limits to set")
def test_a_file_that_may_not_grow_leaves_the_former_one(path):
    import resource

    save_checkpoint(path, {"x": torch.zeros(1000)}, {"step": 1})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # of files that this process writes
    try:
        with pytest.raises(CheckpointError) as raised:
            save_checkpoint(path, {"x": torch.ones(1_000_000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    says_that_there_is_no_room(str(raised.value), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_former_file(path):
    """A file system of 1 MB, in a namespace that ends with the process."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {shlex.quote(str(path.parent))}"
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*inside, mount], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = shlex.join([sys.executable, "-c", FULL_DISK, str(path)])
    result = subprocess.run([*inside, f"{mount} && {command}"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    says_that_there_is_no_room(result.stdout, path)
