"""Generating images: by key, in order, with every solver's own steps; see test_oracles for their distribution."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from malaria_diffusion.compute.distributed import Processes
from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.diffusion import sampling
from malaria_diffusion.diffusion.config import Clipping, Prediction, Solver, Variance
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion, limit_x_0
from malaria_diffusion.diffusion.process.schedule import cosine_schedule, linear_schedule, schedule_from_betas
from malaria_diffusion.diffusion.sampling import (
    Denoiser,
    check_sampling,
    fast_solver,
    labels_to_sample,
    sample,
    sample_states,
    solver_config,
    to_uint8,
)
from malaria_diffusion.errors import UserError

LABELS = np.array([0, 0, 0, 1, 1])
NULL = 2
FAST = [Solver.DDIM, Solver.DPM_SOLVER, Solver.SDE_DPM_SOLVER, Solver.UNIPC]
NAMES = ["dark", "bright", "grey"]
T = 20
SCHEDULES = {
    "linear": linear_schedule(T, 0.001, 0.3),
    "cosine": cosine_schedule(T),
    "uneven": schedule_from_betas(torch.tensor([0.002, 0.2] * (T // 2))),
}


@pytest.fixture(scope="module", params=list(Solver))
def settings(request, sampling_parameters):
    evaluations = None if request.param is Solver.ANCESTRAL else 6
    return sampling_parameters.model_copy(update={"solver": request.param, "evaluations": evaluations})


@pytest.fixture(scope="module")
def generate(model, settings):
    def generate_with(labels=LABELS, **changes):
        changed = settings.model_copy(update=changes)
        return sample(Denoiser(model.network, model.diffusion, 8), labels, changed, progress=False)

    return generate_with


@pytest.fixture(scope="module")
def images(generate):
    return generate()


class Recorded(nn.Module):
    """A network that keeps what it was asked."""

    def __init__(self, network):
        super().__init__()
        self.network, self.x_t, self.t, self.labels = network, [], [], []

    def forward(self, x_t, t, class_labels):
        self.x_t.append(x_t)
        self.t.append(t.tolist())
        self.labels.append(class_labels.tolist())
        return self.network(x_t, t, class_labels=class_labels)


@pytest.fixture(scope="module")
def free_network(network_parameters):
    """A network with random weights that knows a class for none."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_network(network_parameters, 8, 2, unconditional=True).eval()


@pytest.fixture
def guided_states(free_network, process, settings):
    """States, and what the network was asked on the way."""

    def walk(guidance, labels=LABELS, null_class=NULL, network=free_network):
        recorded = Recorded(network)
        changed = settings.model_copy(update={"guidance": guidance})
        diffusion = GaussianDiffusion.from_parameters(process)
        return sample_states(Denoiser(recorded, diffusion, 8, null_class), labels, changed), recorded

    return walk


def grey_levels_apart(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


def test_images_have_the_promised_form_and_differ(images):
    assert images.shape == (5, 3, 8, 8)
    assert images.dtype == np.uint8
    assert ((images > 0) & (images < 255)).mean() > 0.3  # not all clipped
    for index, image in enumerate(images):
        assert all(grey_levels_apart(image, other) > 10 for other in images[:index])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_an_image_is_the_same_in_any_batch(generate, images, batch_size):
    assert grey_levels_apart(images, generate(batch_size=batch_size)) <= 1


def test_an_image_is_the_same_with_more_after_it_or_fewer(generate, images):
    assert grey_levels_apart(images, generate(np.concatenate([LABELS, [1, 0, 0]]))[: len(LABELS)]) <= 1
    assert grey_levels_apart(images[:2], generate(LABELS[:2])) <= 1


def test_a_network_in_training_is_sampled_from_without_its_dropout(network_parameters, process, settings):
    network = build_network(network_parameters.model_copy(update={"dropout": 0.5}), 8, 2).train()
    diffusion = GaussianDiffusion.from_parameters(process)
    one, other = (
        sample(Denoiser(network.train(), diffusion, 8), LABELS[:1], settings, progress=False) for _ in range(2)
    )
    assert np.array_equal(one, other)


class Part(Processes):
    """One of several processes, whose others never answer."""

    def concatenate(self, part):
        return part


@pytest.mark.parametrize("count", [2, 3, 9])
def test_an_image_is_the_same_in_any_share_of_the_work(generate, images, monkeypatch, count):
    parts = []
    for index in range(count):
        monkeypatch.setattr(sampling, "join_processes", lambda device, index=index: Part(index, count))
        parts.append(generate())
        assert len(parts[-1]) in (len(LABELS) // count, -(-len(LABELS) // count))
    assert grey_levels_apart(images, np.concatenate(parts)) <= 1


def test_every_process_gets_all_images(generate, monkeypatch):
    class Doubled(Processes):
        def concatenate(self, part):
            return np.concatenate([part, part])

    monkeypatch.setattr(sampling, "join_processes", lambda device: Doubled(1, 2))
    second_half = generate()
    assert len(second_half) == 6
    assert np.array_equal(second_half[:3], second_half[3:])


def test_the_same_call_gives_the_same_bytes_whatever_torchs_seed(generate, images):
    torch.manual_seed(int(images.sum()))
    assert np.array_equal(images, generate())


def test_another_seed_gives_other_images(generate, images):
    for one, other in zip(images, generate(seed=1), strict=True):
        assert grey_levels_apart(one, other) > 10


def test_the_label_matters_to_its_image_alone(generate, images):
    changed = LABELS.copy()
    changed[2] = 1
    apart = [grey_levels_apart(one, other) for one, other in zip(images, generate(changed), strict=True)]
    assert apart[2] > 1
    assert max(apart[:2] + apart[3:]) <= 1


def test_states_lead_from_noise_to_the_images(model, settings, images):
    states = sample_states(Denoiser(model.network, model.diffusion, 8), LABELS, settings)
    assert len(states) == (settings.evaluations or T) + 1
    noise = [keyed_generator(0, Purpose.IMAGE, k).standard_normal((3, 8, 8), dtype=np.float32) for k in range(5)]
    assert np.array_equal(states[0].numpy(), np.stack(noise))
    assert grey_levels_apart(to_uint8(states[-1]).numpy(), images) <= 1


def test_no_images_are_an_empty_array(generate):
    assert generate(np.empty(0, dtype=np.int64)).shape == (0, 3, 8, 8)


# ---- the paper's sampler and DDIM, written out


def noise_of(streams):
    return np.stack([stream.standard_normal((3, 8, 8), dtype=np.float32) for stream in streams]).astype(np.float64)


def limited(x_0, clipping):
    return np.clip(x_0, -1, 1) if clipping is Clipping.STATIC else x_0


def implied_x_0(network, prediction, x_t, t, bar):
    output = network(torch.from_numpy(x_t).float(), torch.full((len(x_t),), t), class_labels=torch.from_numpy(LABELS))
    output = output.sample.double().numpy()
    a, b = math.sqrt(bar), math.sqrt(1 - bar)
    forms = {Prediction.EPSILON: (x_t - b * output) / a, Prediction.X_0: output, Prediction.V: a * x_t - b * output}
    return forms[prediction]


def close(ours, written_out):
    """Up to float32; relative where a random network's x_0 explodes."""
    return np.abs(ours.numpy() - written_out).max() < 2e-4 * max(1, np.abs(written_out).max())


@torch.no_grad()
@pytest.mark.parametrize("clipping", list(Clipping))
@pytest.mark.parametrize("variance", list(Variance))
@pytest.mark.parametrize("prediction", list(Prediction))
def test_ancestral_sampling_is_algorithm_2(model, sampling_parameters, prediction, variance, clipping):
    """With eq. 13 at the limited image, and either variance of eq. 10."""
    betas = SCHEDULES["uneven"].betas.numpy()
    bars = np.cumprod(1 - betas)
    streams = [keyed_generator(0, Purpose.IMAGE, k) for k in range(len(LABELS))]
    x_t = noise_of(streams)
    for t in reversed(range(T)):
        a, b = math.sqrt(bars[t]), math.sqrt(1 - bars[t])
        epsilon = (x_t - a * limited(implied_x_0(model.network, prediction, x_t, t, bars[t]), clipping)) / b
        x_t = (x_t - betas[t] / b * epsilon) / math.sqrt(1 - betas[t])
        if t > 0:
            tilde = (1 - bars[t - 1]) / (1 - bars[t]) * betas[t]
            x_t += math.sqrt(betas[t] if variance is Variance.BETA else tilde) * noise_of(streams)
    settings = sampling_parameters.model_copy(update={"variance": variance, "clipping": clipping})
    diffusion = GaussianDiffusion(SCHEDULES["uneven"], prediction)
    assert close(sample_states(Denoiser(model.network, diffusion, 8), LABELS, settings)[-1], x_t)
    assert np.std(x_t) > 0.1


@torch.no_grad()
@pytest.mark.parametrize(("evaluations", "schedule"), [(4, "linear"), (7, "cosine"), (T, "uneven")])
@pytest.mark.parametrize("clipping", list(Clipping))
@pytest.mark.parametrize("prediction", list(Prediction))
def test_ddim_is_its_closed_form_without_noise(model, sampling_parameters, prediction, clipping, schedule, evaluations):
    """Song et al. 2021, eq. 12 with sigma = 0: each x_t is of the implied image and the noise that goes with it."""
    bars = np.cumprod(1 - SCHEDULES[schedule].betas.numpy())
    settings = {"solver": Solver.DDIM, "evaluations": evaluations, "clipping": clipping}
    settings = sampling_parameters.model_copy(update=settings)
    recorded = Recorded(model.network)
    states = sample_states(Denoiser(recorded, GaussianDiffusion(SCHEDULES[schedule], prediction), 8), LABELS, settings)
    steps = [t[0] for t in recorded.t]
    x_t = states[0].double().numpy()
    for t, following in zip(steps, [*steps[1:], None], strict=True):
        x_0 = limited(implied_x_0(model.network, prediction, x_t, t, bars[t]), clipping)
        epsilon = (x_t - math.sqrt(bars[t]) * x_0) / math.sqrt(1 - bars[t])
        bar = 1 if following is None else bars[following]
        x_t = math.sqrt(bar) * x_0 + math.sqrt(1 - bar) * epsilon
    assert close(states[-1], x_t)
    assert np.array_equal(x_t, x_0)


@pytest.mark.parametrize("timesteps", [4, 20, 1000])
def test_ddim_takes_even_steps_from_the_noisiest_on_for_any_number_of_evaluations(timesteps):
    diffusion = GaussianDiffusion(linear_schedule(timesteps, 0.001, 0.02))
    sigmas = ((1 - diffusion.schedule.alpha_bars) / diffusion.schedule.alpha_bars).sqrt()
    for evaluations in (*range(4, min(timesteps, 66)), timesteps - timesteps // 3, timesteps):
        if evaluations >= 4:
            scheduler = fast_solver(diffusion, Solver.DDIM, evaluations, Clipping.STATIC)
            steps = scheduler.timesteps.tolist()
            assert (len(steps), steps[0]) == (evaluations, timesteps - 1)
            even = timesteps * np.arange(evaluations, 0, -1) / evaluations - 1
            assert np.abs(np.array(steps) - even).max() <= 0.5
            assert np.allclose(scheduler.sigmas[:-1], sigmas[steps], rtol=1e-3)
            assert scheduler.sigmas[-1] == 0


@torch.no_grad()
@pytest.mark.parametrize("evaluations", [4, 5, 10, 20])
@pytest.mark.parametrize("prediction", list(Prediction))
def test_ddim_is_diffusers_where_the_evaluations_divide_all_steps(model, sampling_parameters, prediction, evaluations):
    """Elsewhere their steps do not follow each other, and for some numbers there is one too many."""
    diffusion = GaussianDiffusion(SCHEDULES["linear"], prediction)
    settings = sampling_parameters.model_copy(update={"solver": Solver.DDIM, "evaluations": evaluations})
    states = sample_states(Denoiser(model.network, diffusion, 8), LABELS, settings)
    scheduler = DDIMScheduler.from_config(solver_config(diffusion, Clipping.STATIC))
    scheduler.set_timesteps(evaluations)
    assert len(scheduler.timesteps) == evaluations
    x_t = states[0]
    for t in scheduler.timesteps:
        output = model.network(x_t, t, class_labels=torch.from_numpy(LABELS)).sample
        x_t = scheduler.step(output, t, x_t, use_clipped_model_output=True).prev_sample
    assert (x_t - states[-1]).abs().max() < 1e-5


# ---- what the solvers of diffusers are told


@torch.no_grad()
@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("clipping", list(Clipping))
@pytest.mark.parametrize("prediction", list(Prediction))
def test_fast_solvers_limit_implied_images_as_the_process_does(model, prediction, clipping, solver):
    scheduler = fast_solver(GaussianDiffusion(SCHEDULES["linear"], prediction), solver, 8, clipping)
    torch.manual_seed(0)
    x_t, beyond = 2 * torch.randn(5, 3, 8, 8), []
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1].double(), strict=True):
        output = model.network(x_t, t, class_labels=torch.from_numpy(LABELS)).sample
        a, b = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()
        forms = {Prediction.EPSILON: (x_t - b * output) / a, Prediction.X_0: output, Prediction.V: a * x_t - b * output}
        x_t = scheduler.step(output, t, x_t).prev_sample
        x_0 = scheduler.model_outputs[-1]
        assert torch.allclose(x_0.double(), limit_x_0(forms[prediction].double(), clipping), rtol=1e-4, atol=1e-4)
        beyond.append(forms[prediction].abs().max())
    assert max(beyond) > 1.5
    assert torch.allclose(x_t, x_0, rtol=1e-4, atol=1e-4)  # the last evaluation is the image


@torch.no_grad()
@pytest.mark.parametrize("solver", [Solver.DPM_SOLVER, Solver.SDE_DPM_SOLVER])
@pytest.mark.parametrize("clipping", list(Clipping))
@pytest.mark.parametrize("prediction", list(Prediction))
def test_dpm_solver_is_its_multistep_formula(model, sampling_parameters, prediction, clipping, solver):
    """Lu et al. 2022 (DPM-Solver++), algorithm 2 and the same of the SDE, their first and last step of order 1."""
    diffusion = GaussianDiffusion(SCHEDULES["linear"], prediction)
    settings = {"solver": solver, "evaluations": 8, "clipping": clipping}
    recorded = Recorded(model.network)
    states = sample_states(Denoiser(recorded, diffusion, 8), LABELS, sampling_parameters.model_copy(update=settings))
    bars = diffusion.schedule.alpha_bars.numpy()
    ends = np.sqrt((1 - bars[[-1, 0]]) / bars[[-1, 0]])
    sigmas = [*np.geomspace(*ends, 8), 0.0]
    x_t, before = states[0].double().numpy(), None
    streams = [keyed_generator(0, Purpose.IMAGE, k) for k in range(len(LABELS))]
    assert np.array_equal(x_t, noise_of(streams))
    for k, (sigma, following) in enumerate(pairwise(sigmas)):
        x_0 = limited(implied_x_0(model.network, prediction, x_t, recorded.t[k][0], 1 / (1 + sigma**2)), clipping)
        slope = 0 if before is None or following == 0 else np.log(sigma / following) / np.log(sigmas[k - 1] / sigma) / 2
        target = x_0 if before is None else x_0 + slope * (x_0 - before)
        a = math.sqrt(1 / (1 + following**2))
        of_x_t = following * a / (sigma / math.sqrt(1 + sigma**2))
        if solver is Solver.DPM_SOLVER:
            x_t = of_x_t * x_t + (a - of_x_t / math.sqrt(1 + sigma**2)) * target
        else:
            kept = (following / sigma) ** 2
            x_t = of_x_t * following / sigma * x_t + a * (1 - kept) * target
            x_t += following * a * math.sqrt(1 - kept) * noise_of(streams)
        before = x_0
    assert close(states[-1], x_t)


@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("evaluations", [4, 15, 61, 1000])
def test_fast_solvers_walk_down_to_zero_in_as_many_steps_as_asked(schedule, solver, evaluations):
    schedules = {"linear": linear_schedule(1000, 1e-4, 0.02), "cosine": cosine_schedule(1000)}
    scheduler = fast_solver(GaussianDiffusion(schedules[schedule]), solver, evaluations, Clipping.STATIC)
    assert len(scheduler.timesteps) == evaluations
    assert 0 <= scheduler.timesteps.min() <= scheduler.timesteps.max() <= 999
    assert (scheduler.timesteps.diff() <= 0).all()
    assert (scheduler.sigmas.diff() < 0).all()
    assert scheduler.sigmas[-1] == 0
    torch.manual_seed(0)
    x_t = torch.ones(1, 3, 2, 2)
    for t in scheduler.timesteps:
        x_t = scheduler.step(torch.zeros_like(x_t), t, x_t).prev_sample
    assert bool(x_t.isfinite().all())


@pytest.mark.parametrize("solver", [Solver.DPM_SOLVER, Solver.UNIPC])
def test_fast_solvers_waste_no_steps_on_pure_noise(solver):
    """They begin at the end of the paper's schedule, and no later than there on one that ends in more noise."""
    linear, cosine = (
        fast_solver(GaussianDiffusion(schedule), solver, 10, Clipping.STATIC)
        for schedule in (linear_schedule(1000, 1e-4, 0.02), cosine_schedule(1000))
    )
    assert linear.sigmas[0] == pytest.approx(157.4, abs=0.1)
    assert linear.timesteps[0] == 999
    assert cosine.sigmas[0] == pytest.approx(160, abs=0.1)
    assert 990 < cosine.timesteps[0] < 999


def test_diffusers_has_nothing_to_say_about_what_it_is_told(caplog, model):
    for solver in FAST:
        fast_solver(model.diffusion, solver, 5, Clipping.STATIC)
    assert not caplog.records


@pytest.mark.parametrize("solver", FAST)
def test_every_number_of_evaluations_gives_as_many_calls_and_images(process, sampling_parameters, solver):
    class Shrinking(nn.Module):
        def forward(self, x_t, t, class_labels):
            return SimpleNamespace(sample=x_t / 2)

    for evaluations in range(4, T + 1):
        settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": evaluations})
        recorded = Recorded(Shrinking())
        states = sample_states(Denoiser(recorded, GaussianDiffusion.from_parameters(process), 8), LABELS, settings)
        assert len(recorded.t) == evaluations
        assert all(bool(state.isfinite().all()) for state in states)


@pytest.mark.parametrize("solver", FAST)
def test_more_evaluations_than_steps_are_refused(model, sampling_parameters, solver):
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": 21})
    with pytest.raises(UserError, match=r"evaluations is 21.*20"):
        sample(Denoiser(model.network, model.diffusion, 8), LABELS, settings, progress=False)


# ---- guidance


def calls(settings):
    return settings.evaluations or T


def test_guidance_1_takes_the_class_alone(guided_states, settings):
    states, recorded = guided_states(1.0)
    assert recorded.labels == [LABELS.tolist()] * calls(settings)
    without, _ = guided_states(1.0, null_class=None)
    assert torch.equal(states[-1], without[-1])


def test_guidance_0_ignores_the_class(guided_states, settings):
    states, recorded = guided_states(0.0)
    assert recorded.labels == [[NULL] * len(LABELS)] * calls(settings)
    unconditional, _ = guided_states(1.0, labels=np.full_like(LABELS, NULL))
    assert torch.equal(states[-1], unconditional[-1])


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_guidance_goes_from_no_class_through_the_class_and_beyond(guided_states, free_network, settings, scale):
    class Mixed(nn.Module):
        def forward(self, x_t, t, class_labels):
            with_class = free_network(x_t, t, class_labels=class_labels).sample
            free = free_network(x_t, t, class_labels=torch.full_like(class_labels, NULL)).sample
            return SimpleNamespace(sample=free + scale * (with_class - free))

    states, recorded = guided_states(scale)
    expected, _ = guided_states(1.0, network=Mixed())
    assert (states[-1] - expected[-1]).abs().max() < 1e-5
    assert (states[-1] - guided_states(1.0)[0][-1]).abs().max() > 1e-3
    assert len(recorded.labels) == 2 * calls(settings)
    both = (LABELS.tolist(), [NULL] * len(LABELS))
    for first, second in zip(recorded.labels[::2], recorded.labels[1::2], strict=True):
        assert sorted([first, second]) == sorted(both)
    for first, second in zip(recorded.x_t[::2], recorded.x_t[1::2], strict=True):
        assert torch.equal(first, second)
    assert recorded.t[::2] == recorded.t[1::2]


def test_guided_images_are_the_same_in_any_batch(free_network, process, settings):
    def generate(batch_size):
        changed = settings.model_copy(update={"guidance": 2.0, "batch_size": batch_size})
        diffusion = GaussianDiffusion.from_parameters(process)
        return sample(Denoiser(free_network, diffusion, 8, NULL), LABELS, changed, progress=False)

    assert grey_levels_apart(generate(2), generate(5)) <= 1


class Told(nn.Module):
    """A network's answer, shifted; remembers the classes it was told."""

    def __init__(self, network, shift):
        super().__init__()
        self.network, self.shift, self.told = network, shift, []

    def forward(self, x_t, t, class_labels):
        self.told.append(class_labels.tolist())
        return SimpleNamespace(sample=self.network(x_t, t, class_labels=class_labels).sample + self.shift)


@pytest.mark.parametrize("null_class", [None, NULL])
def test_a_guide_is_what_guidance_goes_away_from(free_network, process, settings, null_class):
    """It is not told the class if both can do without."""
    diffusion = GaussianDiffusion.from_parameters(process)
    changed = settings.model_copy(update={"guidance": 1.5})

    class Mixed(nn.Module):
        def forward(self, x_t, t, class_labels):
            answer = free_network(x_t, t, class_labels=class_labels).sample
            told = class_labels if null_class is None else torch.full_like(class_labels, null_class)
            weaker = free_network(x_t, t, class_labels=told).sample + 0.1
            return SimpleNamespace(sample=weaker + 1.5 * (answer - weaker))

    guide = Told(free_network, 0.1)
    found = sample_states(Denoiser(free_network, diffusion, 8, null_class, guide=guide), LABELS, changed)[-1]
    expected = sample_states(Denoiser(Mixed(), diffusion, 8), LABELS, settings)[-1]
    assert (found - expected).abs().max() < 1e-5
    told = LABELS.tolist() if null_class is None else [NULL] * len(LABELS)
    assert guide.told == [told] * calls(settings)


def test_a_guide_is_not_asked_where_nothing_is_guided(free_network, process, settings):
    guide = Told(free_network, 0.1)
    sample_states(
        Denoiser(free_network, GaussianDiffusion.from_parameters(process), 8, NULL, guide=guide), LABELS, settings
    )
    assert guide.told == []


@pytest.mark.parametrize("guidance", [0.0, 0.9, 2.0])
def test_guidance_of_a_network_that_needs_the_class_is_refused(model, settings, guidance):
    changed = settings.model_copy(update={"guidance": guidance})
    with pytest.raises(UserError, match=rf"guidance is {guidance}.*label_dropout above 0"):
        check_sampling(changed, T, None)
    with pytest.raises(UserError, match="label_dropout"):
        sample(Denoiser(model.network, model.diffusion, 8), LABELS, changed, progress=False)
    check_sampling(changed, T, NULL)
    check_sampling(changed, T, None, has_guide=True)


# ---- labels, grey levels, broken networks


def test_one_count_is_for_every_class():
    assert labels_to_sample(2, NAMES).tolist() == [0, 0, 1, 1, 2, 2]


def test_counts_by_name_are_in_the_order_of_the_classes():
    assert labels_to_sample({"grey": 1, "dark": 2}, NAMES).tolist() == [0, 0, 2]
    assert labels_to_sample({"grey": 1, "bright": 0, "dark": 0}, NAMES).tolist() == [2]


def test_an_unknown_class_is_named():
    with pytest.raises(UserError, match=r"count asks for \['blue'\], but the classes are .*'grey'"):
        labels_to_sample({"dark": 1, "blue": 3}, NAMES)


def test_grey_levels_are_rounded_and_clipped():
    levels = torch.arange(256)
    images = levels / 127.5 - 1
    for nudge in (-0.49, 0, 0.49):
        assert torch.equal(to_uint8(images + nudge / 127.5), levels.to(torch.uint8))
    assert to_uint8(torch.tensor([-5.0, -1.0, 1.0, 5.0])).tolist() == [0, 0, 255, 255]
    assert to_uint8(images).dtype == torch.uint8


def test_images_that_are_not_finite_are_an_error(model, settings):
    """Not black squares."""

    class Broken(nn.Module):
        def forward(self, x_t, t, class_labels):
            return SimpleNamespace(sample=torch.full_like(x_t, torch.nan))

    with pytest.raises(UserError, match="images 0 to 3 are not finite"):
        sample(Denoiser(Broken(), model.diffusion, 8), LABELS, settings, progress=False)


def test_grey_images_are_the_means_of_the_channels():
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    grey = to_uint8(images, grey=True)
    assert (grey == grey[:, :1]).all()
    expected = (images.mean(dim=1) + 1) * 127.5
    assert (grey[:, 0] - expected).abs().max() <= 0.5 + 1e-4
