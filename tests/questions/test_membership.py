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
    difficulty,
    membership_attack,
    rate_interval,
    standardised,
    stratified_auc,
    true_positive_rate,
)
from malaria_diffusion.statistics.bootstrap import Bootstrap

from ..toys import toy

SIZE, CLASSES = 8, ["A", "B"]
CPU = Compute(torch.device("cpu"), torch.float32)


def process(prediction=Prediction.EPSILON):
    return GaussianDiffusion(linear_schedule(50, 0.001, 0.2), prediction)


def drawn(rng, number, people, names):
    """Random patterns of people with a stain."""
    person = np.arange(number) % people
    stain = rng.normal(128, 30, (people, 3, 1, 1))[person]
    cells = (stain + rng.normal(0, 40, (number, 3, SIZE, SIZE))).clip(0, 255).astype(np.uint8)
    labels = np.array(CLASSES)[rng.integers(2, size=number)]
    return cells, pd.DataFrame({"person": [f"{names}{k}" for k in person], "label": labels})


def toy_cells(seed, number=80, people=8):
    """`number` members and as many non-members of some people, cells of others to learn from and to hold against."""
    rng = np.random.default_rng(seed)
    images, table = drawn(rng, 2 * number, people, "P")
    others, others_table = drawn(rng, 120, 24, "Q")
    is_audit = rng.permutation(2 * number) < number
    of_test = others_table["person"].str[1:].astype(int) >= 12
    table = pd.concat(
        [
            table.assign(split="train", audit=is_audit),
            others_table.assign(split=np.where(of_test, "test", "val"), audit=False),
        ],
        ignore_index=True,
    )
    return toy(np.concatenate([images, others]), table, classes=CLASSES)


def members_of(study):
    return study.part("train").pixels


def attack(network, study, seed=0):
    return membership_attack(Denoiser(network, process(), SIZE), study, CPU, 0.95, np.random.default_rng(seed))


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
    """A U-Net trained for long on few cells, and these."""
    study = toy_cells(1, number=32, people=4)
    network, diffusion = small_network(), process()
    members = study.part("train")
    images = torch.tensor(members.pixels, dtype=torch.float32) / 127.5 - 1
    labels = torch.tensor(members.classes)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        t = torch.randint(25, (32,), generator=generator)
        epsilon = torch.randn(images.shape, generator=generator)
        output = network(diffusion.q_sample(images, t, epsilon), t, class_labels=labels).sample
        optimizer.zero_grad()
        (output - epsilon).square().mean().backward()
        optimizer.step()
    return network, study


def test_an_overfitted_network_gives_its_cells_away(overfitted):
    found = attack(*overfitted).summary
    assert found["auc"] > 0.75
    assert found["low"] > 0.5
    assert found["verdict"] == "members are told apart"


def test_an_untrained_network_does_not():
    results = [attack(small_network(seed), toy_cells(seed)) for seed in range(3)]
    assert sum(result.summary["low"] <= 0.5 <= result.summary["high"] for result in results) >= 2
    assert abs(np.mean([result.summary["auc"] for result in results]) - 0.5) < 0.1


def test_perfect_memory_is_told_with_certainty():
    study = toy_cells(2)
    result = attack(Memory(members_of(study)), study)
    assert result.summary["auc"] > 0.98
    assert result.summary["uncalibrated"]["auc"] > 0.98
    # memory of other cells tells nothing of these
    other = attack(Memory(members_of(toy_cells(3))), study)
    assert other.summary["low"] < 0.5 < other.summary["high"]


@pytest.mark.parametrize("non_members", [80, 520])
def test_a_rate_at_one_percent_is_stated_only_where_the_cells_carry_it(non_members):
    study = toy_cells(2, number=non_members)
    summary = attack(Memory(members_of(study)), study).summary
    if non_members < 500:
        assert summary["tpr"] is summary["tpr_low"] is summary["fpr"] is None
    else:
        assert summary["tpr"] > 0.8
        assert summary["fpr"] <= 0.01


def test_the_interval_holds_one_half_where_nothing_is_remembered():
    network = Memory(members_of(toy_cells(4)))
    rows = [attack(network, toy_cells(seed, people=20)).summary for seed in range(100, 120)]
    missed = sum(not row["low"] <= 0.5 <= row["high"] for row in rows)
    assert missed <= stats.binom.ppf(0.999, len(rows), 0.05)
    aucs = [row["auc"] for row in rows]
    assert abs(np.mean(aucs) - 0.5) < 4 * np.std(aucs) / np.sqrt(len(rows))


def test_people_are_told_apart_by_cells_that_nothing_was_trained_on_too_if_theirs_are_alike():
    """A stain is a person's: whoever remembers some of their cells knows the others better."""
    study = toy_cells(5, number=120, people=15)
    found = attack(Memory(members_of(study)), study).summary["by_person"]
    rows = pd.DataFrame(found["rows"]).set_index("cells")
    assert rows.loc["trained on", "auc"] > 0.9
    assert rows.loc["trained on", "p_value"] < 0.001
    assert 0.6 < rows.loc["never trained on", "auc"] < rows.loc["trained on", "auc"]
    assert rows["training_people"].tolist() == [15, 15]
    assert rows["other_people"].tolist() == [12, 12]
    assert found["verdict"] == "people are told apart"


def test_of_people_nobody_was_trained_on_the_p_values_are_uniform():
    network = Memory(members_of(toy_cells(6)))
    found = [attack(network, toy_cells(seed, number=60, people=15)).summary for seed in range(200, 230)]
    for _, rows in pd.concat(pd.DataFrame(of["by_person"]["rows"]) for of in found).groupby("cells"):
        assert stats.kstest(rows["p_value"], "uniform").pvalue > 0.001
        assert (rows["low"] <= 0.5).sum() >= stats.binom.ppf(0.001, len(rows), 0.95)


def test_few_people_or_none_are_not_judged():
    few = attack(Memory(members_of(toy_cells(7))), toy_cells(7)).summary["by_person"]
    assert not few["testable"]
    assert "8 people" in few["reason"]
    study = toy_cells(7)
    nameless = study.table.assign(person=[f"image {k}" for k in range(len(study))])
    found = attack(Memory(members_of(study)), toy(study.pixels, nameless, classes=CLASSES)).summary
    assert found["matched_by"] == "label"
    assert found["auc"] > 0.98
    assert found["by_person"] == {"testable": False, "reason": "names tell no people"}


def test_within_one_stratum_the_area_is_that_of_scikit_learn_and_strata_do_not_mix():
    rng = np.random.default_rng(0)
    loss, is_member = rng.normal(size=300).round(1), rng.random(300) < 0.5
    one = np.zeros(300, int)
    assert stratified_auc(loss, is_member, one) == pytest.approx(roc_auc_score(is_member, -loss))
    stratum = rng.integers(0, 5, 300)
    whole = stratified_auc(loss, is_member, stratum)
    assert stratified_auc(loss + 100 * stratum, is_member, stratum) == pytest.approx(whole)
    sizes = [(is_member[stratum == k].sum(), (~is_member[stratum == k]).sum()) for k in range(5)]
    weights = [m * n / (m + n + 1) for m, n in sizes]
    each = [roc_auc_score(is_member[stratum == k], -loss[stratum == k]) for k in range(5)]
    assert whole == pytest.approx(np.average(each, weights=weights))
    assert np.isnan(stratified_auc(loss[:3], np.ones(3, bool), one[:3]))


def test_the_rate_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    loss, is_member = rng.normal(size=400).round(1), rng.random(400) < 0.5
    curve = roc_curve(is_member, -loss, drop_intermediate=False)
    tpr, fpr = true_positive_rate(loss, is_member)
    assert tpr == pytest.approx(curve[1][curve[0] <= 0.01].max())
    assert fpr == pytest.approx(curve[0][curve[0] <= 0.01].max())


def test_a_rate_with_weights_is_that_of_repeated_cells():
    rng = np.random.default_rng(2)
    loss, is_member, times = rng.normal(size=300), rng.random(300) < 0.5, rng.integers(0, 4, 300)
    found = true_positive_rate(loss, is_member, 0.1, times.astype(float))
    assert found == pytest.approx(true_positive_rate(loss.repeat(times), is_member.repeat(times), 0.1))


def test_the_interval_of_a_rate_is_over_people():
    """Cells of a person are alike: forty people with ten cells each tell less than four hundred with one."""
    rng = np.random.default_rng(3)
    person, is_member = np.arange(40).repeat(10), np.tile([True, False], 200)
    loss = 2 * rng.normal(size=40)[person] + 0.1 * rng.normal(size=400) - is_member
    widths = [
        np.diff(rate_interval(loss, is_member, of.astype(str), 0.1, Bootstrap(300, 0.95, np.random.default_rng(0))))[0]
        for of in (person, np.arange(400))
    ]
    assert widths[0] > 1.5 * widths[1]


def test_hard_images_are_expected_to_cost_more():
    """Of losses that are contrast and noise, what is left is the noise; what is not known is not fitted."""
    rng = np.random.default_rng(0)
    contrast = rng.uniform(5, 60, 600)
    images = (128 + contrast[:, None, None, None] * rng.normal(size=(600, 3, SIZE, SIZE))).clip(0, 255).astype(np.uint8)
    noise = 0.1 * rng.normal(size=600)
    loss, known = contrast / 30 + noise, np.arange(600) < 300
    left = loss - difficulty(images, np.zeros(600, int), loss, known)
    assert left[~known].std() < 0.35 * loss[~known].std()
    assert np.corrcoef(left[~known], noise[~known])[0, 1] > 0.7
    changed = np.where(known, loss, rng.normal(size=600))
    assert (difficulty(images, np.zeros(600, int), changed, known) == loss - left).all()
    assert (difficulty(images, np.zeros(600, int), loss, np.arange(600) < 10) == 0).all()


def test_the_loss_is_that_of_the_noise_whatever_is_predicted():
    images, steps = members_of(toy_cells(5))[:4], np.array([3, 20])
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
    network, study = overfitted
    images = np.concatenate([members_of(study)] * 2)
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


def test_all_non_members_are_attacked_beside_members_of_their_people_and_classes():
    study = toy_cells(6)
    losses = attack(Memory(members_of(study)), study).losses
    assert set(losses.loc[~losses["member"], "row"]) <= set(study.part("audit").places)
    assert (~losses["member"]).sum() >= 0.9 * len(study.part("audit"))
    assert set(losses.loc[losses["member"], "row"]) <= set(study.part("train").places)
    kinds = losses.groupby(["person", "label", "member"]).size().unstack(fill_value=0)
    there = study.part("train").table.groupby(["person", "label"]).size()
    assert (kinds[True] == np.minimum(membership.MEMBERS_EACH * kinds[False], there[kinds.index])).all()


def test_the_same_seed_gives_the_same_numbers(monkeypatch):
    monkeypatch.setattr(membership, "MEMBERS_EACH", 1)
    study = toy_cells(7, number=200, people=4)
    kept = study[np.flatnonzero((np.arange(len(study)) % 3 == 0) | ~study.table["audit"])]
    one, other, third = (attack(Memory(members_of(study)), kept, seed) for seed in (1, 1, 2))
    assert one.summary == other.summary
    assert one.losses["row"].tolist() != third.losses["row"].tolist()


def test_without_held_out_cells_it_says_that_it_cannot_tell(tmp_path):
    study = toy_cells(8)
    audit = np.flatnonzero(study.table["audit"])
    for few in (0, 10):
        kept = np.setdiff1d(np.arange(len(study)), audit[few:])
        result = attack(Memory(members_of(study)), study[kept])
        assert not result.summary["testable"]
        assert "audit_fraction" in result.summary["reason"]
        membership_roc(result).savefig(tmp_path / "figure.png")


def test_black_cells_tell_nothing_and_make_no_nan(tmp_path):
    study = toy_cells(9)
    result = attack(Memory(members_of(study)), toy(0 * study.pixels, study.table, classes=CLASSES))
    assert result.summary["auc"] == 0.5
    assert result.summary["verdict"] == "members are not told apart"
    json.dumps(result.summary, allow_nan=False)
    assert np.isfinite(result.losses["loss"]).all()
    membership_roc(result).savefig(tmp_path / "figure.png")


def test_what_cannot_be_attacked_is_refused():
    study = toy_cells(10)
    broken = Memory(members_of(study))
    broken.cells *= torch.nan
    with pytest.raises(ValueError, match="not finite"):
        attack(broken, study)
