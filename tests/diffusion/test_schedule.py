"""The variance schedules: linear, cosine and learned."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from malaria_diffusion.diffusion.config import Prediction, ProcessParameters, ScheduleKind, Variance
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.loss import bound_term, prior_term
from malaria_diffusion.diffusion.process.schedule import (
    LearnedSchedule,
    cosine_schedule,
    linear_schedule,
    schedule_from_betas,
    schedule_from_parameters,
)

LINEAR = [(2, 0.1, 0.9), (20, 0.001, 0.3), (1000, 1e-4, 0.02), (50, 0.01, 0.01)]
COSINE = [2, 20, 1000]
INITIAL = {f"linear {settings}": linear_schedule(*settings) for settings in LINEAR}
INITIAL |= {f"cosine {timesteps}": cosine_schedule(timesteps) for timesteps in COSINE}


def perturbed(initial, seed):
    learned = LearnedSchedule(initial)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in learned.parameters():
            weight += 0.5 * torch.randn(weight.shape, generator=generator)
    return learned


ANY = INITIAL | {f"learned from {name}": LearnedSchedule(schedule)() for name, schedule in INITIAL.items()}
ANY |= {f"learned from {name}, moved": perturbed(schedule, 0)() for name, schedule in INITIAL.items()}


@pytest.fixture(params=LINEAR, ids=str)
def settings(request):
    return request.param


@pytest.fixture(params=INITIAL.values(), ids=INITIAL)
def initial(request):
    return request.param


@pytest.fixture(params=ANY.values(), ids=ANY)
def schedule(request):
    return request.param


def test_linear_betas_run_linearly_from_start_to_end(settings):
    timesteps, start, end = settings
    betas = linear_schedule(*settings).betas
    assert betas.tolist() == pytest.approx([start + (end - start) * i / (timesteps - 1) for i in range(timesteps)])


def test_betas_lie_strictly_between_zero_and_one(schedule):
    assert ((schedule.betas > 0) & (schedule.betas < 1)).all()
    assert torch.allclose(schedule.alphas, 1 - schedule.betas, rtol=0, atol=1e-15)


def test_alpha_bars_are_running_products_and_fall_strictly(schedule):
    product, expected = 1.0, []
    for alpha in schedule.alphas.tolist():
        product *= alpha
        expected.append(product)
    assert schedule.alpha_bars.tolist() == pytest.approx(expected, rel=1e-11)
    assert (schedule.alpha_bars.diff() < 0).all()
    assert ((schedule.alpha_bars > 0) & (schedule.alpha_bars < 1)).all()


def test_previous_alpha_bars_are_shifted_by_one_step(schedule):
    assert schedule.alpha_bars_previous[0] == 1
    assert torch.equal(schedule.alpha_bars_previous[1:], schedule.alpha_bars[:-1])


def test_all_tensors_have_one_entry_for_each_step_in_double_precision(initial):
    for schedule in (initial, LearnedSchedule(initial)()):
        assert schedule.timesteps == initial.timesteps
        for values in (schedule.betas, schedule.alphas, schedule.alpha_bars, schedule.alpha_bars_previous):
            assert values.shape == (initial.timesteps,)
            assert values.dtype == torch.float64


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_betas_outside_the_unit_interval_are_refused(bad):
    with pytest.raises(ValueError, match=r"betas must lie in \(0, 1\).*check beta_start and beta_end"):
        schedule_from_betas(torch.tensor([0.1, bad, 0.2]))


def test_the_papers_process_ends_in_almost_pure_noise():
    schedule = linear_schedule(1000, 1e-4, 0.02)
    logarithm = sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * i / 999)) for i in range(1000))
    assert schedule.alpha_bars[-1].item() == pytest.approx(math.exp(logarithm), rel=1e-9)
    assert 3.5e-5 < schedule.alpha_bars[-1].item() < 4.5e-5


def test_single_precision_betas_are_completed_in_double():
    schedule = schedule_from_betas(torch.full((1000,), 1e-4, dtype=torch.float32))
    assert schedule.alpha_bars[-1].item() == pytest.approx((1 - schedule.betas[0].item()) ** 1000, rel=1e-12)


@pytest.mark.parametrize("timesteps", COSINE)
def test_cosine_betas_are_those_of_diffusers(timesteps):
    theirs = DDPMScheduler(num_train_timesteps=timesteps, beta_schedule="squaredcos_cap_v2").betas
    assert torch.allclose(cosine_schedule(timesteps).betas.float(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("timesteps", COSINE)
def test_cosine_alpha_bars_have_their_closed_form_below_the_cap(timesteps):
    def f(t):
        return math.cos((t / timesteps + 0.008) / 1.008 * math.pi / 2) ** 2

    schedule = cosine_schedule(timesteps)
    for t in range(timesteps):
        capped = 1 - f(t + 1) / f(t) > 0.999
        assert schedule.betas[t].item() == pytest.approx(0.999) if capped else schedule.betas[t] < 0.999
        if not capped:
            assert schedule.alpha_bars[t].item() == pytest.approx(f(t + 1) / f(0), rel=1e-9)
    assert capped  # the last step is the one that the cap is for


@pytest.mark.parametrize("kind", ScheduleKind)
def test_parameters_choose_the_schedule(kind):
    parameters = ProcessParameters(timesteps=20, schedule=kind, beta_start=0.001, beta_end=0.3, prediction=Prediction.V)
    expected = cosine_schedule(20) if kind is ScheduleKind.COSINE else linear_schedule(20, 0.001, 0.3)
    assert torch.equal(schedule_from_parameters(parameters).betas, expected.betas)


def test_a_learned_schedule_starts_where_it_is_told(initial):
    schedule = LearnedSchedule(initial)()
    assert torch.allclose(schedule.alpha_bars.logit(), initial.alpha_bars.logit(), rtol=0, atol=2e-5)
    assert torch.allclose(schedule.betas, initial.betas, rtol=2e-5, atol=0)


def test_a_learned_schedule_falls_whatever_its_weights(initial):
    for seed in range(20):
        schedule = perturbed(initial, seed)()
        assert (schedule.alpha_bars.logit().diff() < 0).all()
        assert ((schedule.betas > 0) & (schedule.betas < 1)).all()


@pytest.mark.parametrize("name", ["betas", "alphas", "alpha_bars", "alpha_bars_previous"])
def test_a_learned_schedule_is_differentiable_in_all_its_weights(initial, name):
    learned = LearnedSchedule(initial)
    values = getattr(learned(), name)
    (values * torch.arange(len(values))).sum().backward()
    for weight in learned.parameters():
        assert weight.grad.isfinite().all()
        if initial.timesteps > 2:  # a single share is always the whole
            assert weight.grad.any()


@pytest.mark.parametrize("prediction", Prediction)
def test_descent_on_the_bound_mends_a_bad_schedule(prediction):
    """The network is the exact denoiser of Gaussian images, so all that can fall is the schedule's part."""
    initial = linear_schedule(50, 1e-4, 0.02)  # made for 1000 steps: more than half of the signal is left in x_T
    mean, variance, shape = 0.1, 0.09, (50, 1, 8, 8)
    t = torch.arange(50)

    def bound(schedule, seed):
        generator = torch.Generator().manual_seed(seed)
        normal = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
        x_0, epsilon = ((mean + variance**0.5 * normal[0] + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1, normal[1]
        diffusion = GaussianDiffusion(schedule, prediction)
        bars = schedule.alpha_bars.view(-1, 1, 1, 1)
        x_t = diffusion.q_sample(x_0, t, epsilon)
        implied = mean + variance * bars.sqrt() / (variance * bars + 1 - bars) * (x_t - bars.sqrt() * mean)
        output = diffusion.target(implied, t, (x_t - bars.sqrt() * implied) / (1 - bars).sqrt())
        prior = prior_term(diffusion, x_0).mean()
        return prior + bound_term(diffusion, output, x_0, x_t, t, Variance.BETA_TILDE).sum(), prior.item()

    learned = LearnedSchedule(initial)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for step in range(200):
        optimizer.zero_grad()
        bound(learned(), step)[0].backward()
        optimizer.step()
    with torch.no_grad():
        (before, prior_before), (after, prior_after) = (bound(s, 1000) for s in (initial, learned()))
    assert after < before - 0.5
    assert prior_after < prior_before / 10
