"""The variational bound of images whose entropy and best denoiser are known."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from malaria_diffusion.diffusion.bound import variational_bound
from malaria_diffusion.diffusion.config import BoundParameters, Prediction, SamplingParameters, Variance
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.schedule import cosine_schedule, linear_schedule
from malaria_diffusion.diffusion.sampling import Denoiser
from malaria_diffusion.errors import UserError
from malaria_diffusion.report.sections.diffusion.steps import measure_bound

from ..toys import toy

MEAN, DEVIATION = 0.1, 0.3
COUNT = 48
LABELS = np.arange(COUNT) % 3
ALL_STEPS = 10**6


class Oracle(torch.nn.Module):
    """The best denoiser of pixels from N(MEAN, DEVIATION^2)."""

    def __init__(self, diffusion):
        super().__init__()
        self.diffusion = diffusion
        self.seen = []

    def forward(self, x_t, t, class_labels):
        assert x_t.dtype == torch.float32
        assert not torch.is_grad_enabled()
        self.seen += zip(class_labels.tolist(), t.tolist(), strict=True)
        bars = self.diffusion.schedule.alpha_bars[t].view(-1, 1, 1, 1)
        x_0 = MEAN + gain(bars) * (x_t - bars.sqrt() * MEAN)
        output = self.diffusion.target(x_0, t, (x_t - bars.sqrt() * x_0) / (1 - bars).sqrt())
        return SimpleNamespace(sample=output.float())


def gain(bars):
    return DEVIATION**2 * bars**0.5 / (DEVIATION**2 * bars + 1 - bars)


@pytest.fixture(scope="module")
def images():
    """Each image holds the quantiles of the pixels' distribution in an order of its own."""
    generator = np.random.default_rng(0)
    ranks = np.stack([generator.permutation(192) for _ in range(COUNT)])
    pixels = stats.norm.ppf((ranks + generator.random(ranks.shape)) / 192, MEAN, DEVIATION)
    return np.clip(np.round((pixels + 1) * 127.5), 0, 255).astype(np.uint8).reshape(COUNT, 3, 8, 8)


@pytest.fixture(scope="module")
def entropy():
    """Of the 256 levels, bits."""
    edges = (np.arange(257) - 0.5) / 127.5 - 1
    edges[0], edges[-1] = -np.inf, np.inf
    masses = np.diff(stats.norm.cdf(edges, MEAN, DEVIATION))
    return stats.entropy(masses, base=2)


def linear(timesteps, prediction=Prediction.V):
    """The paper's schedule at T steps."""
    return GaussianDiffusion(linear_schedule(timesteps, 0.1 / timesteps, min(20 / timesteps, 0.999)), prediction)


def cosine(timesteps, prediction=Prediction.V):
    return GaussianDiffusion(cosine_schedule(timesteps), prediction)


def bound_of(diffusion, images, steps=ALL_STEPS, seed=0, network=None, about=None, **settings):
    parameters = BoundParameters(images=len(images), steps=steps, seed=seed)
    table = pd.DataFrame({"label": np.array(list("abc"))[LABELS[: len(images)]]})
    table["person"] = np.arange(len(images)).astype(str)
    denoiser = Denoiser(network or Oracle(diffusion), diffusion, 8)
    cells = toy(images, table.assign(**about or {}), classes=list("abc"))
    return variational_bound(denoiser, cells, parameters, torch.device("cpu"), **settings)


@pytest.mark.parametrize("process", [linear, cosine])
def test_no_bound_lies_below_the_entropy(process, images, entropy):
    for timesteps in (10, 50, 250):
        for terms in bound_of(process(timesteps), images).terms.values():
            assert terms.total > entropy - 3 * terms.standard_error


@pytest.mark.parametrize("process", [linear, cosine])
def test_more_steps_come_closer_to_the_entropy(process, images, entropy):
    """With beta, which is the right variance for images as wide as these."""
    gaps = [bound_of(process(timesteps), images).terms[Variance.BETA].total - entropy for timesteps in (10, 50, 250)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.03


def test_beta_tilde_is_right_where_the_class_says_all():
    levels = np.array([40, 140, 255], dtype=np.uint8)
    images = np.broadcast_to(levels[LABELS[:, None, None, None]], (COUNT, 3, 8, 8))

    class Certain(torch.nn.Module):
        def forward(self, x_t, t, class_labels):
            x_0 = torch.from_numpy(levels / 127.5 - 1).float()[class_labels].view(-1, 1, 1, 1)
            return SimpleNamespace(sample=x_0.expand_as(x_t))

    terms = bound_of(cosine(50, Prediction.X_0), images, network=Certain(), batch_size=7).terms
    assert terms[Variance.BETA_TILDE].middle == pytest.approx(0, abs=1e-6)
    assert terms[Variance.BETA].middle > 0.1


def test_terms_have_their_closed_form(images):
    diffusion = linear(50)
    bound = bound_of(diffusion, images)
    bars, betas = diffusion.schedule.alpha_bars.numpy(), diffusion.schedule.betas.numpy()
    previous, bars_1, betas_1 = bars[:-1], bars[1:], betas[1:]
    away = ((images / 127.5 - 1 - MEAN) ** 2).mean()
    error = (1 - gain(bars_1) * bars_1**0.5) ** 2 * away + gain(bars_1) ** 2 * (1 - bars_1)
    tilde = (1 - previous) / (1 - bars_1) * betas_1
    for variance, sigma2 in {Variance.BETA: betas_1, Variance.BETA_TILDE: tilde}.items():
        shift = previous * betas_1**2 / (1 - bars_1) ** 2 * error / sigma2
        nats = (shift + tilde / sigma2 - 1 - np.log(tilde / sigma2)) / 2
        terms = bound.terms[variance]
        assert terms.curve == pytest.approx(nats / math.log(2), rel=0.1)
        assert abs(terms.middle - nats.sum() / math.log(2)) < 4 * terms.standard_error
    square = ((images / 127.5 - 1) ** 2).mean()
    prior = (bars[-1] * square - bars[-1] - np.log(1 - bars[-1])) / 2 / math.log(2)
    assert bound.prior == pytest.approx(prior, rel=1e-9)


@pytest.mark.parametrize("steps", [3, ALL_STEPS])
def test_the_total_is_the_sum_of_its_parts(images, steps):
    bound = bound_of(linear(10), images, steps)
    assert set(bound.terms) == set(Variance)
    for terms in bound.terms.values():
        assert terms.total == pytest.approx(bound.prior + terms.middle + terms.reconstruction, rel=1e-12)
        if steps == ALL_STEPS:
            assert terms.middle == pytest.approx(terms.curve.sum(), rel=1e-12)


def test_every_prediction_has_the_same_bound(images):
    bounds = [bound_of(cosine(10, prediction), images) for prediction in Prediction]
    for variance in Variance:
        totals = [bound.terms[variance].total for bound in bounds]
        assert totals == pytest.approx([totals[0]] * 3, rel=1e-5)


def test_every_step_is_looked_at_once_in_each_image(images):
    network = Oracle(linear(10))
    bound = bound_of(linear(10), images, network=network, batch_size=7)
    assert sorted(network.seen) == sorted((label, t) for label in LABELS for t in range(10))
    assert bound.steps.tolist() == list(range(1, 10))


@pytest.mark.parametrize(("timesteps", "parts"), [(10, 3), (9, 3), (50, 1), (50, 48), (250, 20)])
def test_each_part_is_looked_at_once_in_each_image(images, timesteps, parts):
    network = Oracle(linear(timesteps))
    bound = bound_of(linear(timesteps), images, parts, network=network, batch_size=COUNT)
    seen = np.array([t for _, t in network.seen]).reshape(1 + parts, COUNT)
    assert not seen[0].any()
    first = 1
    for middle, drawn in zip(bound.steps, seen[1:], strict=True):
        last = 2 * middle - first
        assert last >= first
        assert set(drawn) == set(range(first, int(last) + 1)) if last - first < 5 else len(set(drawn)) > 5
        assert first <= drawn.min() <= drawn.max() <= last
        first = int(last) + 1
    assert first == timesteps  # the parts are all of 1 to T - 1


@pytest.mark.parametrize(("process", "timesteps", "parts"), [(linear, 6, 3), (linear, 6, 4), (cosine, 250, 20)])
def test_some_steps_stand_for_all(images, process, timesteps, parts):
    diffusion = process(timesteps)
    whole, part = bound_of(diffusion, images), bound_of(diffusion, images, parts, seed=1)
    for variance in Variance:
        one, other = whole.terms[variance], part.terms[variance]
        assert abs(one.total - other.total) < 4 * math.hypot(one.standard_error, other.standard_error)


def test_the_standard_error_is_that_of_repetitions(images):
    diffusion = linear(10)
    totals, errors = zip(
        *((bound_of(diffusion, images, 3, seed).terms[Variance.BETA])[:2] for seed in range(40)), strict=True
    )
    assert np.std(totals, ddof=1) == pytest.approx(np.mean(errors), rel=0.35)


def test_cells_of_a_person_are_no_independent_witnesses(images):
    """Twelve people with four cells of equal bounds each tell as much as twelve cells."""
    repeated = images[:12].repeat(4, axis=0)
    people = np.arange(12).repeat(4).astype(str)
    errors = [
        bound_of(linear(10), repeated, about={"person": of}).terms[Variance.BETA].standard_error
        for of in (people, np.arange(48).astype(str))
    ]
    assert errors[0] > 1.2 * errors[1]


def test_the_same_call_gives_the_same_numbers_and_another_seed_others(images):
    first, second, other = (bound_of(linear(10), images, 4, seed) for seed in (0, 0, 1))
    for variance in Variance:
        assert first.terms[variance].total == second.terms[variance].total
        assert np.array_equal(first.terms[variance].curve, second.terms[variance].curve)
        assert first.terms[variance].total != other.terms[variance].total


@pytest.mark.parametrize("batch_size", [1, 7, COUNT, 1000])
def test_the_batch_size_changes_nothing(images, batch_size):
    expected, ours = bound_of(linear(10), images, 4), bound_of(linear(10), images, 4, batch_size=batch_size)
    assert ours.prior == pytest.approx(expected.prior, rel=1e-12)
    for variance in Variance:
        assert np.hstack(ours.terms[variance]) == pytest.approx(np.hstack(expected.terms[variance]), rel=1e-9)


def test_cells_drawn_from_one_person_alone_have_no_interval(images):
    table = pd.DataFrame({"label": ["a", "b"] * 2, "person": ["p"] * 4, "split": "test", "audit": False})
    with pytest.raises(UserError, match=r"diffusion\.bound\.images is 2: the 2 cells drawn are of one person"):
        measure_bound(toy(images[:4], table), None, BoundParameters(images=2), SamplingParameters())
