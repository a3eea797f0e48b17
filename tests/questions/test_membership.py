"""The attack by the denoising loss: it succeeds on a network that has memorised its cells, and on no other."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from malaria_diffusion.compute.device import Compute
from malaria_diffusion.diffusion.config import NetworkParameters, Prediction
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.schedule import linear_schedule
from malaria_diffusion.diffusion.sampling import Denoiser
from malaria_diffusion.questions.privacy import membership
from malaria_diffusion.questions.privacy.figure import membership_roc
from malaria_diffusion.questions.privacy.membership import (
    attack_timesteps,
    denoising_losses,
    membership_attack,
    standardised,
    weighted_roc,
)
from malaria_diffusion.statistics.bootstrap import Bootstrap

from ..toys import toy

SIZE, CLASSES = 8, ["A", "B"]
CPU = Compute(torch.device("cpu"), torch.float32)
RESAMPLES = 200


def process(prediction=Prediction.EPSILON):
    return GaussianDiffusion(linear_schedule(50, 0.001, 0.2), prediction)


def toy_cells(seed, number=80, people=8):
    """Random patterns of people with a stain; `number` members and as many non-members."""
    rng = np.random.default_rng(seed)
    person = np.arange(2 * number) % people
    stain = rng.normal(128, 30, (people, 3, 1, 1))[person]
    cells = (stain + rng.normal(0, 40, (2 * number, 3, SIZE, SIZE))).clip(0, 255).astype(np.uint8)
    labels = np.array(CLASSES)[rng.integers(2, size=2 * number)]
    table = pd.DataFrame({"person": [f"P{k}" for k in person], "label": labels})
    table.index += 1000
    order = rng.permutation(2 * number)
    members, unseen = order[:number], order[number:]
    return cells[members], table.iloc[members], cells[unseen], table.iloc[unseen]


def attack(network, sides, seed=0):
    bootstrap = Bootstrap(RESAMPLES, 0.95, np.random.default_rng(seed))
    members, audit = (toy(images, table, classes=CLASSES) for images, table in (sides[:2], sides[2:]))
    return membership_attack(Denoiser(network, process(), SIZE), members, audit, CPU, bootstrap, seed)


class Memory(nn.Module):
    """The network that training on `cells` alone leads to: the expected noise if x_0 is one of them, at random."""

    def __init__(self, cells):
        super().__init__()
        self.register_buffer("cells", torch.tensor(cells, dtype=torch.float32).flatten(1) / 127.5 - 1)

    def forward(self, x_t, t, class_labels):
        bars = process().schedule.alpha_bars.float()[t][:, None]
        away = torch.cdist(x_t.flatten(1), bars[0].sqrt() * self.cells).square()  # a batch has one t
        expected = torch.softmax(-away / (2 * (1 - bars)), dim=1) @ self.cells
        epsilon = (x_t.flatten(1) - bars.sqrt() * expected) / (1 - bars).sqrt()
        return SimpleNamespace(sample=epsilon.view_as(x_t))


def small_network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parameters = NetworkParameters(
            channels=[24, 24], layers_per_block=1, attention_sides=[], norm_groups=4, dropout=0.0
        )
        return build_network(parameters, SIZE, len(CLASSES))


@pytest.fixture(scope="module")
def overfitted():
    """A U-Net trained for long on few cells, and the sides."""
    sides = toy_cells(1, number=32, people=4)
    network, diffusion = small_network(), process()
    images = torch.tensor(sides[0], dtype=torch.float32) / 127.5 - 1
    labels = torch.tensor([CLASSES.index(label) for label in sides[1]["label"]])
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        t = torch.randint(25, (32,), generator=generator)
        epsilon = torch.randn(images.shape, generator=generator)
        output = network(diffusion.q_sample(images, t, epsilon), t, class_labels=labels).sample
        optimizer.zero_grad()
        (output - epsilon).square().mean().backward()
        optimizer.step()
    return network, sides


def test_an_overfitted_network_gives_its_cells_away(overfitted):
    network, sides = overfitted
    found = attack(network, sides).summary
    assert found["auc"] > 0.75
    assert found["low"] > 0.5
    assert found["verdict"] == "members are told apart"


def test_an_untrained_network_does_not():
    results = [attack(small_network(seed), toy_cells(seed)) for seed in range(3)]
    assert sum(result.summary["low"] <= 0.5 <= result.summary["high"] for result in results) >= 2
    assert abs(np.mean([result.summary["auc"] for result in results]) - 0.5) < 0.1


def test_perfect_memory_is_told_with_certainty():
    sides = toy_cells(2)
    result = attack(Memory(sides[0]), sides)
    assert result.summary["auc"] > 0.99
    assert result.summary["tpr"] > 0.9
    assert result.summary["fpr"] <= 0.01
    assert (result.by_timestep["auc"] > 0.75).all()
    # memory of other cells tells nothing of these
    other = attack(Memory(toy_cells(3)[0]), sides)
    assert other.summary["low"] < 0.5 < other.summary["high"]


def test_the_interval_holds_one_half_where_nothing_is_remembered():
    network = Memory(toy_cells(4)[0])
    rows = [attack(network, toy_cells(seed, people=20)).summary for seed in range(100, 120)]
    missed = sum(not row["low"] <= 0.5 <= row["high"] for row in rows)
    assert missed <= stats.binom.ppf(0.999, len(rows), 0.05)
    aucs = [row["auc"] for row in rows]
    assert abs(np.mean(aucs) - 0.5) < 4 * np.std(aucs) / np.sqrt(len(rows))


def test_weighted_curves_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    loss, is_member = rng.normal(size=300).round(1), rng.random(300) < 0.5
    weights = rng.integers(0, 4, (5, 300)).astype(float)
    for k, (area, tpr, fpr) in enumerate(zip(*weighted_roc(loss, is_member, weights), strict=True)):
        assert area == pytest.approx(roc_auc_score(is_member, -loss, sample_weight=weights[k]))
        curve = roc_curve(is_member, -loss, sample_weight=weights[k], drop_intermediate=False)
        assert tpr == pytest.approx(curve[1][curve[0] <= 0.01].max())
        assert fpr == pytest.approx(curve[0][curve[0] <= 0.01].max())


def test_the_loss_is_that_of_the_noise_whatever_is_predicted():
    sides = toy_cells(5)
    images, steps = sides[0][:4], np.array([3, 20])
    labels = np.zeros(4, dtype=np.int64)

    class Constant(nn.Module):
        """Says that x_0 is grey, in the words of each prediction."""

        def __init__(self, diffusion):
            super().__init__()
            self.diffusion = diffusion

        def forward(self, x_t, t, class_labels):
            bars = self.diffusion.schedule.alpha_bars.float()[t].view(-1, 1, 1, 1)
            epsilon = x_t / (1 - bars).sqrt()
            said = {Prediction.EPSILON: epsilon, Prediction.X_0: 0 * x_t, Prediction.V: bars.sqrt() * epsilon}
            return SimpleNamespace(sample=said[self.diffusion.prediction])

    by_prediction = [
        denoising_losses(Denoiser(Constant(process(kind)), process(kind), SIZE), images, labels, steps, 0, CPU)
        for kind in Prediction
    ]
    # then the error is sqrt(alpha_bar / (1 - alpha_bar)) x_0
    bars = process().schedule.alpha_bars.numpy()[steps]
    expected = np.square(images / 127.5 - 1).mean(axis=(1, 2, 3))[:, None] * bars / (1 - bars)
    for losses in by_prediction:
        assert losses == pytest.approx(expected, rel=1e-4)


def test_cells_share_their_noise_and_batches_change_nothing(overfitted):
    network, sides = overfitted
    images = np.concatenate([sides[0], sides[0]])
    labels = np.zeros(len(images), dtype=np.int64)
    denoiser = Denoiser(network, process(), SIZE)
    losses = denoising_losses(denoiser, images, labels, attack_timesteps(50), 0, CPU)
    assert losses[:32] == pytest.approx(losses[32:], rel=1e-4)


def test_timesteps_lie_in_the_first_half():
    for timesteps in (4, 20, 1000):
        steps = attack_timesteps(timesteps)
        assert (np.diff(steps) > 0).all()
        assert 0 <= steps[0] <= steps[-1] < timesteps / 2
    assert len(attack_timesteps(1000)) == 8


def test_every_timestep_weighs_as_much():
    rng = np.random.default_rng(0)
    losses = rng.normal(size=(50, 3))
    assert standardised(losses * [1, 100, 0.01] + [5, 0, 1]) == pytest.approx(standardised(losses))
    assert (standardised(np.ones((5, 2))) == 0).all()


def test_members_and_non_members_are_matched(monkeypatch):
    monkeypatch.setattr(membership, "CELLS", 30)
    sides = toy_cells(6)
    losses = attack(Memory(sides[0]), sides).losses
    kinds = losses.groupby(["person", "label", "member"]).size().unstack(fill_value=0)
    assert (kinds[True] == kinds[False]).all()
    assert kinds.to_numpy().sum() == 60
    assert set(losses.loc[losses["member"], "row"]) <= set(sides[1].index)
    assert set(losses.loc[~losses["member"], "row"]) <= set(sides[3].index)


def test_the_same_seed_gives_the_same_numbers(monkeypatch):
    monkeypatch.setattr(membership, "CELLS", 40)
    sides = toy_cells(7)
    one, other, third = (attack(Memory(sides[0]), sides, seed) for seed in (1, 1, 2))
    assert one.summary == other.summary
    assert one.losses["row"].tolist() != third.losses["row"].tolist()


def test_without_held_out_cells_it_says_that_it_cannot_tell(tmp_path):
    sides = toy_cells(8)
    for few in (0, 10):
        result = attack(Memory(sides[0]), (*sides[:2], sides[2][:few], sides[3].iloc[:few]))
        assert not result.summary["testable"]
        assert "audit_fraction" in result.summary["reason"]
        membership_roc(result).savefig(tmp_path / "figure.png")


def test_black_cells_tell_nothing_and_make_no_nan(tmp_path):
    sides = toy_cells(9)
    result = attack(Memory(sides[0]), (0 * sides[0], sides[1], 0 * sides[2], sides[3]))
    assert result.summary["auc"] == 0.5
    assert result.summary["verdict"] == "members are not told apart"
    json.dumps(result.summary, allow_nan=False)
    assert np.isfinite(result.losses["loss"]).all()
    membership_roc(result).savefig(tmp_path / "figure.png")


def test_what_cannot_be_attacked_is_refused():
    sides = toy_cells(10)
    broken = Memory(sides[0])
    broken.cells *= torch.nan
    with pytest.raises(ValueError, match="not finite"):
        attack(broken, sides)
