"""The attack with shadow models: fair where nothing is remembered, as strong as theory says where something is."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from malaria_diffusion.diffusion.config import NetworkParameters, ProcessParameters, SamplingParameters
from malaria_diffusion.diffusion.sampling import Denoiser
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.privacy.membership import (
    attack_timesteps,
    denoising_losses,
    stratified_auc,
    true_positive_rate,
)
from malaria_diffusion.questions.utility import small_ddpm
from malaria_diffusion.studies.config import ShadowParameters
from malaria_diffusion.studies.shadow.attack import (
    LIKELIHOOD_RATIO,
    MODEL,
    NOTHING,
    SHADOWS,
    THRESHOLD,
    TOLD,
    Target,
    attack,
    likelihood_ratio,
    targets,
)
from malaria_diffusion.studies.shadow.design import design
from malaria_diffusion.studies.shadow.figure import roc_figure
from malaria_diffusion.studies.shadow.losses import Shadows

from ..questions.test_membership import CPU, SIZE, Memory, process
from ..toys import toy, toy_training


def settings(cells=200, models=4, seed=0):
    return ShadowParameters(models=models, images=32, cells=cells, seed=seed)


def study(cells=200, people=10, audit=0.3, classes=("A",), seed=0, size=1):
    """Cells of people of the training, and of a few validation people."""
    rng = np.random.default_rng(seed)
    number = np.arange(cells + 40)
    of_val = number >= cells
    table = pd.DataFrame(
        {
            "person": [f"V{k % 4}" if val else f"P{k % people}" for k, val in zip(number, of_val, strict=True)],
            "label": np.array(classes)[rng.integers(len(classes), size=len(number))],
            "name": [f"cell{k}.png" for k in number],
            "path": [f"cell{k}.png" for k in number],
            "split": np.where(of_val, "val", "train"),
            "audit": ~of_val & (rng.random(len(number)) < audit),
        }
    )
    images = (128 + 40 * rng.normal(size=(len(number), 3, size, size))).clip(0, 255).astype(np.uint8)
    return toy(images, table)


def simulated(cells, parameters, rng, effect=0.0, remembered=1.0):
    """Targets whose losses are how hard a cell is, and noise; `remembered` of the cells lose `effect` when trained on.

    Nothing is remembered by the model itself.
    """
    halves = design(cells, parameters)
    inside, people = halves.inside[halves.attacked], pd.factorize(halves.pool.people[halves.attacked])[0]
    count, models = inside.shape
    hard = 2 * (rng.normal(size=(count, 1)) + rng.normal(size=(people.max() + 1, 1))[people])
    stain = 0.5 * rng.normal(size=(people.max() + 1, models + 1))[people]  # that a model likes or not
    losses = hard + stain + rng.normal(size=(count, models + 1))
    losses[:, :models] -= effect * (rng.random((count, 1)) < remembered) * inside
    found = []
    for place in range(models):
        others = np.arange(models) // 2 != place // 2
        ratio = likelihood_ratio(losses[:, place], losses[:, :models][:, others], inside[:, others])
        found.append(Target(inside[:, place], {LIKELIHOOD_RATIO: ratio, THRESHOLD: -losses[:, place]}))
    ratio = likelihood_ratio(losses[:, -1], losses[:, :models], inside)
    trained_on = ~halves.pool.table["audit"].to_numpy()[halves.attacked]
    return found, Target(trained_on, {LIKELIHOOD_RATIO: ratio, THRESHOLD: -losses[:, -1]}), halves


# --- who is in ---


@pytest.mark.parametrize("models", [4, 6])
def test_every_cell_trains_half_of_the_shadows_and_half_of_those_that_attack_each(models):
    halves = design(study(classes=("A", "B")), settings(models=models))
    inside = halves.inside
    assert (inside.sum(axis=1) == models // 2).all()
    assert (inside[:, ::2] == ~inside[:, 1::2]).all()
    assert (inside[:, 0] != inside[:, 2]).any()
    for place in range(models):
        others = np.arange(models) // 2 != place // 2
        assert (inside[:, others].sum(axis=1) == models // 2 - 1).all()  # whether it is in the target or not


def test_the_cells_of_a_person_and_class_are_halved_and_audit_cells_are_among_them():
    cells = study(classes=("A", "B"))
    halves = design(cells, settings())
    assert halves.matched_by == "person and label"
    assert set(halves.pool.places) == set(np.flatnonzero(cells.table["split"] == "train"))
    for side in halves.inside.T:
        of_stratum = pd.Series(side).groupby(halves.stratum).agg(["sum", "size"])
        assert (abs(2 * of_stratum["sum"] - of_stratum["size"]) <= 1).all()
        assert 0 < halves.pool.table["audit"][side].sum() < halves.pool.table["audit"].sum()
    few = design(cells, settings(cells=60))
    assert len(few.attacked) == 60
    assert halves.pool.table["audit"].iloc[few.attacked].sum() == 30


def test_the_seed_decides():
    one, same, other = (design(study(), settings(cells=50, seed=seed)) for seed in (1, 1, 2))
    assert (one.inside == same.inside).all()
    assert (one.attacked == same.attacked).all()
    assert (one.inside != other.inside).any()


def test_what_cannot_be_halved_is_refused_and_nameless_cells_are_halved_by_class():
    with pytest.raises(UserError, match="30 cells of 10 training people can be halved"):
        design(study(cells=30), settings())
    with pytest.raises(UserError, match="100 cells of 9 training people"):
        design(study(cells=100, people=9), settings())
    halves = design(study(people=200, classes=("A", "B")), settings())
    assert halves.matched_by == "label"
    assert len(set(halves.stratum)) == 2
    for odd in (2, 3, 5):
        with pytest.raises(ValueError, match="models"):
            settings(models=odd)


# --- the ratio ---


def test_where_nothing_is_remembered_balanced_shadows_tell_nothing_by_being_balanced():
    """Of six that balance each other without pairs, 0.46: the others hold a member twice, a non-member thrice."""
    shadows, _, halves = simulated(study(cells=4000), settings(cells=4000, models=6), np.random.default_rng(0))
    for one in shadows[:2]:
        assert stratified_auc(-one.scores[LIKELIHOOD_RATIO], one.member, halves.stratum) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("models", "effect"), [(2, 0.8), (2, 0.2), (6, 0.8)])
def test_an_effect_that_all_cells_share_is_found_as_well_as_theory_says(models, effect):
    """The loss less the mean of K others is normal with variance 1 + 1 / K, for members `effect` lower."""
    rng = np.random.default_rng(models)
    inside = np.arange(models) % 2 == rng.integers(2, size=(20000, 1))
    member = rng.random(20000) < 0.5
    hard = 3 * rng.normal(size=20000)
    others = hard[:, None] + rng.normal(size=inside.shape) - effect * inside
    loss = hard + rng.normal(size=20000) - effect * member
    found = stratified_auc(-likelihood_ratio(loss, others, inside), member, np.zeros(20000, np.int64))
    expected = stats.norm.cdf(effect / np.sqrt(2 * (1 + 1 / models)))
    assert found == pytest.approx(expected, abs=0.015)


def test_the_ratio_of_very_different_effects_is_that_of_each_cell_by_itself():
    """Carlini et al. 2022, equation 4, with the variance of all cells."""
    rng = np.random.default_rng(0)
    inside = np.arange(40) % 2 == rng.integers(2, size=(500, 1))
    effects = 40 * rng.random((500, 1))
    others = rng.normal(size=inside.shape) - effects * inside
    loss = rng.normal(size=500) - effects[:, 0] * (rng.random(500) < 0.5)
    within, without = (
        np.array([row[side].mean() for row, side in zip(others, sides, strict=True)]) for sides in (inside, ~inside)
    )
    expected = stats.norm.logpdf(loss, within) - stats.norm.logpdf(loss, without)
    found = likelihood_ratio(loss, others, inside)
    assert np.corrcoef(found, expected)[0, 1] > 0.9999
    assert found == pytest.approx(expected, rel=0.1, abs=2)


def test_few_remembered_cells_are_found_by_shadows_where_a_threshold_finds_them_seldom():
    rng = np.random.default_rng(0)
    shadows, _, _ = simulated(study(cells=1000), settings(cells=1000, models=16), rng, effect=4.0, remembered=0.1)
    rates = {
        kind: np.mean([true_positive_rate(-one.scores[kind], one.member)[0] for one in shadows])
        for kind in (LIKELIHOOD_RATIO, THRESHOLD)
    }
    assert rates[LIKELIHOOD_RATIO] > 0.05
    assert rates[LIKELIHOOD_RATIO] > 2 * rates[THRESHOLD]


def test_models_that_all_say_the_same_tell_nothing():
    inside = np.arange(4) % 2 == np.zeros((10, 1))
    assert (likelihood_ratio(np.arange(10.0), np.ones((10, 4)), inside) == 0).all()


# --- the verdict ---


def test_where_nothing_is_remembered_the_interval_holds_one_half():
    rows = []
    for seed in range(20):
        found = attack(
            *simulated(study(cells=150, seed=seed), settings(seed=seed), np.random.default_rng(seed)), 0.95
        ).summary
        rows += [(name, found[name][LIKELIHOOD_RATIO]["auc"], found[name]["verdict"]) for name in (SHADOWS, MODEL)]
    for target in (SHADOWS, MODEL):
        aucs = [auc for name, auc, _ in rows if name == target]
        missed = sum(not auc["low"] <= 0.5 <= auc["high"] for auc in aucs)
        assert missed <= stats.binom.ppf(0.999, len(aucs), 0.05)
        values = [auc["value"] for auc in aucs]
        assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / np.sqrt(len(values))
    assert all((verdict == TOLD) == (auc["low"] > 0.5) for _, auc, verdict in rows)


def test_what_is_planted_is_found_told_and_drawn(tmp_path):
    found = attack(*simulated(study(), settings(), np.random.default_rng(1), effect=1.0), 0.95)
    shadows, model = found.summary[SHADOWS], found.summary[MODEL]
    assert shadows["verdict"] == TOLD
    expected = stats.norm.cdf(1 / np.sqrt(2 * 1.5))  # by two others, as above; a stain is alike within a person
    assert shadows[LIKELIHOOD_RATIO]["auc"]["low"] < expected < shadows[LIKELIHOOD_RATIO]["auc"]["high"]
    assert shadows[LIKELIHOOD_RATIO]["auc"]["value"] > shadows[THRESHOLD]["auc"]["value"]
    assert shadows["members"] == shadows["non_members"] == 400
    assert model["verdict"] == NOTHING
    json.dumps(found.summary, allow_nan=False)
    # 400 non-members carry no rate at 1 %
    assert set(found.metrics["metric"]) == {"auc"}
    assert set(found.metrics["target"]) == {SHADOWS, MODEL, *(f"shadow {number}" for number in range(4))}
    of_each = found.metrics[found.metrics["target"].str.match(r"shadow \d")].groupby("attack")["value"]
    for kind in (LIKELIHOOD_RATIO, THRESHOLD):
        assert shadows[kind]["auc"]["value"] == pytest.approx(of_each.mean()[kind])
        assert shadows[kind]["spread"] == pytest.approx(of_each.std()[kind])
    roc_figure(found, "toys").savefig(tmp_path / "figure.png")


def test_rates_are_stated_where_the_cells_carry_them():
    cells = study(cells=600)
    found = attack(*simulated(cells, settings(cells=600), np.random.default_rng(2)), 0.95).summary
    assert "tpr at 0.01" in found[SHADOWS][LIKELIHOOD_RATIO]  # 1,200 non-members
    assert "tpr at 0.001" not in found[SHADOWS][LIKELIHOOD_RATIO]
    assert "tpr at 0.01" not in found[MODEL][LIKELIHOOD_RATIO]


def test_without_audit_cells_shadows_alone_are_attacked(tmp_path):
    found = attack(*simulated(study(audit=0.0), settings(), np.random.default_rng(3)), 0.95)
    assert found.summary[SHADOWS]["testable"]
    assert not found.summary[MODEL]["testable"]
    assert "audit_fraction" in found.summary[MODEL]["reason"]
    roc_figure(found, "toys").savefig(tmp_path / "figure.png")


# --- models ---


def losses_under(network, cells):
    steps = attack_timesteps(50)
    return denoising_losses(Denoiser(network, process(), SIZE), cells.pixels, cells.classes, steps, 0, CPU)


def test_models_that_remember_their_cells_give_them_away():
    cells = study(cells=120, size=SIZE, classes=("A", "B"))
    halves = design(cells, settings(cells=120))
    measured = cells[np.concatenate([halves.pool.places[halves.attacked], cells.part("val").places])]
    networks = [Memory(halves.pool.pixels[side]) for side in halves.inside.T]
    shadows = [losses_under(network, measured) for network in networks]
    model = losses_under(Memory(cells.part("train").pixels), measured)
    found = attack(*targets(halves, measured, shadows, model), halves, 0.95).summary
    for target in (SHADOWS, MODEL):
        assert found[target]["verdict"] == TOLD
        assert found[target][LIKELIHOOD_RATIO]["auc"]["value"] > 0.98
    # a model that remembers others does not
    stranger = losses_under(Memory(study(cells=120, size=SIZE, seed=9).pixels), measured)
    assert attack(*targets(halves, measured, shadows, stranger), halves, 0.95).summary[MODEL]["verdict"] == NOTHING


def test_a_shadow_is_trained_once_on_its_half_alone_and_measured_once(tmp_path, monkeypatch):
    cells, trained = study(cells=60, size=SIZE, classes=("A", "B")), []
    network = NetworkParameters(channels=[8, 8], layers_per_block=1, attention_sides=[], norm_groups=4, dropout=0.0)
    like = SimpleNamespace(process=ProcessParameters(timesteps=8), network=network, training=toy_training())
    sampling = SamplingParameters(precision="float32", device="cpu")
    really = small_ddpm.train

    def train(data, *arguments):
        trained.append(data.train_rows)
        return really(data, *arguments)

    monkeypatch.setattr(small_ddpm, "train", train)

    def losses(images):
        parameters = settings(cells=60).model_copy(update={"images": images})
        shadows = Shadows(cells, design(cells, parameters), like, parameters, sampling, tmp_path)
        return shadows.losses(0), shadows

    first, shadows = losses(32)
    assert first.shape == (60 + 40, 4)
    assert shadows.images_seen == 28  # an epoch of 30 cells in batches of 4
    assert set(trained[0]) == set(shadows.design.pool.places[shadows.design.inside[:, 0]])
    assert (losses(32)[0] == first).all()
    assert len(trained) == 1
    assert (losses(64)[0] != first).any()
    assert len(trained) == 2
