"""Generating images: by key, in order, and from the right distribution."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from malaria_diffusion.ddpm.keyed import Purpose, keyed_generator
from malaria_diffusion.ddpm.parameters import Prediction, Solver
from malaria_diffusion.ddpm.process import GaussianDiffusion
from malaria_diffusion.ddpm.sampling import check_evaluations, labels_to_sample, sample, sample_states, to_uint8

LABELS = np.array([0, 0, 0, 1, 1, 1, 1])
FAST = [Solver.DPM_SOLVER, Solver.UNIPC]
NAMES = ["dark", "bright", "grey"]


@pytest.fixture(params=list(Solver))
def settings(request, sampling_parameters):
    evaluations = None if request.param is Solver.ANCESTRAL else 6
    return sampling_parameters.model_copy(update={"solver": request.param, "evaluations": evaluations})


@pytest.fixture
def generate(model, settings):
    def generate_with(labels=LABELS, **changes):
        changed = settings.model_copy(update=changes)
        return sample(model.network, model.diffusion, labels, 8, changed, progress=False)

    return generate_with


def grey_levels_apart(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


def test_images_have_the_promised_form_and_differ(generate):
    images = generate()
    assert images.shape == (7, 3, 8, 8)
    assert images.dtype == np.uint8
    assert ((images > 0) & (images < 255)).mean() > 0.3  # not all clipped
    for index, image in enumerate(images):
        assert all(grey_levels_apart(image, other) > 10 for other in images[:index])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_an_image_is_the_same_in_any_batch(generate, batch_size):
    assert grey_levels_apart(generate(), generate(batch_size=batch_size)) <= 1


def test_an_image_is_the_same_with_more_after_it(generate):
    assert grey_levels_apart(generate(), generate(np.concatenate([LABELS, [1, 0, 0]]))[: len(LABELS)]) <= 1


def test_the_same_call_gives_the_same_bytes_whatever_torchs_seed(generate):
    torch.manual_seed(1)
    one = generate()
    torch.manual_seed(2)
    assert np.array_equal(one, generate())


def test_another_seed_gives_other_images(generate):
    for one, other in zip(generate(), generate(seed=1), strict=True):
        assert grey_levels_apart(one, other) > 10


def test_the_label_matters_to_its_image_alone(generate):
    changed = LABELS.copy()
    changed[2] = 1
    apart = [grey_levels_apart(one, other) for one, other in zip(generate(), generate(changed), strict=True)]
    assert apart[2] > 1
    assert max(apart[:2] + apart[3:]) <= 1


def test_states_lead_from_noise_to_the_images(model, settings, generate):
    states = sample_states(model.network, model.diffusion, LABELS, 8, settings)
    assert len(states) == (settings.evaluations or model.diffusion.timesteps) + 1
    noise = [keyed_generator(0, Purpose.IMAGE, k).standard_normal((3, 8, 8), dtype=np.float32) for k in range(7)]
    assert np.array_equal(states[0].numpy(), np.stack(noise))
    assert grey_levels_apart(to_uint8(states[-1]).numpy(), generate()) <= 1


def test_no_images_are_an_empty_array(generate):
    assert generate(np.empty(0, dtype=np.int64)).shape == (0, 3, 8, 8)


@torch.no_grad()
@pytest.mark.parametrize("prediction", list(Prediction))
def test_ancestral_sampling_is_algorithm_2(model, sampling_parameters, prediction):
    """A loop written from the paper: eq. 13 with the implied image clipped, and beta-tilde."""
    process = model.lineage.process.model_copy(update={"prediction": prediction})
    betas = np.linspace(process.beta_start, process.beta_end, process.timesteps)
    bars = np.cumprod(1 - betas)
    streams = [keyed_generator(0, Purpose.IMAGE, k) for k in range(len(LABELS))]

    def noise():
        return np.stack([stream.standard_normal((3, 8, 8), dtype=np.float32) for stream in streams]).astype(np.float64)

    x_t = noise()
    for t in reversed(range(process.timesteps)):
        steps = torch.full((len(LABELS),), t)
        output = model.network(torch.from_numpy(x_t).float(), steps, class_labels=torch.from_numpy(LABELS)).sample
        output = output.double().numpy()
        a, b = np.sqrt(bars[t]), np.sqrt(1 - bars[t])
        epsilon = output if prediction is Prediction.EPSILON else b * x_t + a * output
        epsilon = (x_t - a * np.clip((x_t - b * epsilon) / a, -1, 1)) / b
        x_t = (x_t - betas[t] / b * epsilon) / np.sqrt(1 - betas[t])
        if t > 0:
            x_t += np.sqrt((1 - bars[t - 1]) / (1 - bars[t]) * betas[t]) * noise()
    ours = sample_states(model.network, GaussianDiffusion.from_parameters(process), LABELS, 8, sampling_parameters)
    assert np.abs(ours[-1].numpy() - x_t).max() < 1e-3
    assert np.std(x_t) > 0.1


class Oracle(nn.Module):
    """The exact E[epsilon | x_t], or E[v | x_t], for pixels drawn from N(mean of the class, sd^2)."""

    def __init__(self, diffusion, means, sd):
        super().__init__()
        self.diffusion, self.means, self.sd = diffusion, torch.tensor(means), sd

    def forward(self, x_t, t, class_labels):
        bar = self.diffusion.schedule.alpha_bars[t].float().view(-1, 1, 1, 1)
        mean = self.means[class_labels].view(-1, 1, 1, 1)
        x_0 = mean + bar.sqrt() * self.sd**2 / (bar * self.sd**2 + 1 - bar) * (x_t - bar.sqrt() * mean)
        epsilon = (x_t - bar.sqrt() * x_0) / (1 - bar).sqrt()
        v = bar.sqrt() * epsilon - (1 - bar).sqrt() * x_0
        return SimpleNamespace(sample=epsilon if self.diffusion.prediction is Prediction.EPSILON else v)


ORACLE_MEANS = (-0.3, 0.2)
ORACLE_LABELS = np.arange(24) % 2


def residuals_of_oracle(paper_process, prediction, sd, settings):
    """Pixels sampled with the exact denoiser, less the mean of their class."""
    diffusion = GaussianDiffusion.from_parameters(paper_process.model_copy(update={"prediction": prediction}))
    oracle = Oracle(diffusion, ORACLE_MEANS, sd)
    images = sample_states(oracle, diffusion, ORACLE_LABELS, 16, settings)[-1].double().numpy()
    return images - np.array(ORACLE_MEANS)[ORACLE_LABELS][:, None, None, None]


@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_exact_denoiser_gives_the_datas_distribution(paper_process, sampling_parameters, prediction):
    sd = 0.15  # so that clipping to [-1, 1] never acts
    residuals = residuals_of_oracle(paper_process, prediction, sd, sampling_parameters)
    variance = 1.0  # beta-tilde is exact for T to infinity; at this T the variance follows a recursion
    betas = np.linspace(paper_process.beta_start, paper_process.beta_end, paper_process.timesteps)
    bars = np.cumprod(1 - betas)
    before = np.append(1, bars[:-1])
    for beta, bar, previous in zip(betas[::-1], bars[::-1], before[::-1], strict=True):
        gain = math.sqrt(bar) * sd**2 / (bar * sd**2 + 1 - bar)
        slope = math.sqrt(previous) * beta / (1 - bar) * gain + math.sqrt(1 - beta) * (1 - previous) / (1 - bar)
        variance = slope**2 * variance + (1 - previous) / (1 - bar) * beta
    assert math.sqrt(variance) == pytest.approx(sd, rel=0.03)  # the exact recursion is near the data
    for label in (0, 1):
        of_class = residuals[label == ORACLE_LABELS]
        assert abs(of_class.mean()) < 5 * sd / math.sqrt(of_class.size)
        assert abs(of_class.var() / variance - 1) < 5 * math.sqrt(2 / of_class.size)


@pytest.mark.parametrize("sd", [0.05, 0.15, 0.5])
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("solver", FAST)
def test_fast_solvers_keep_the_datas_spread(paper_process, sampling_parameters, solver, prediction, sd):
    """20 evaluations must leave fine texture: too large a last step averages it away."""
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": 20})
    residuals = residuals_of_oracle(paper_process, prediction, sd, settings)
    for label in (0, 1):
        of_class = residuals[label == ORACLE_LABELS]
        assert abs(of_class.mean()) < 5 * sd / math.sqrt(of_class.size)
        assert of_class.std() == pytest.approx(sd, rel=0.06)


@pytest.mark.parametrize("solver", FAST)
def test_fast_solvers_converge_with_more_evaluations(paper_process, sampling_parameters, solver):
    settings = [sampling_parameters.model_copy(update={"solver": solver, "evaluations": n}) for n in (5, 20, 250)]
    errors = [abs(residuals_of_oracle(paper_process, Prediction.V, 0.3, s).std() / 0.3 - 1) for s in settings]
    assert errors[0] > errors[2]
    assert errors[2] < 0.02


@pytest.mark.parametrize("solver", FAST)
@pytest.mark.parametrize("evaluations", [4, 19, 20])
def test_every_number_of_evaluations_gives_images_or_is_refused(model, sampling_parameters, solver, evaluations):
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": evaluations})
    assert model.diffusion.timesteps == 20
    try:
        check_evaluations(settings, 20)
    except ValueError as error:
        assert evaluations == 20, error
    else:
        states = sample_states(model.network, model.diffusion, LABELS, 8, settings)
        finite = all(bool(state.isfinite().all()) for state in states)
        assert finite


@pytest.mark.parametrize("solver", FAST)
def test_more_evaluations_than_steps_are_refused(model, sampling_parameters, solver):
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": 21})
    with pytest.raises(ValueError, match=r"evaluations is 21.*20"):
        sample(model.network, model.diffusion, LABELS, 8, settings, progress=False)


def test_one_count_is_for_every_class():
    assert labels_to_sample(2, NAMES).tolist() == [0, 0, 1, 1, 2, 2]


def test_counts_by_name_are_in_the_order_of_the_classes():
    assert labels_to_sample({"grey": 1, "dark": 2}, NAMES).tolist() == [0, 0, 2]
    assert labels_to_sample({"grey": 1, "bright": 0, "dark": 0}, NAMES).tolist() == [2]


def test_an_unknown_class_is_named():
    with pytest.raises(ValueError, match=r"count asks for \['blue'\], but the classes are .*'grey'"):
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

    with pytest.raises((ValueError, RuntimeError), match="finite"):
        sample(Broken(), model.diffusion, LABELS, 8, settings, progress=False)
