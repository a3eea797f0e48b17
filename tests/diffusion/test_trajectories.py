"""Films of the two processes."""

import numpy as np
import pytest
import torch

from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.diffusion.config import ScheduleKind, Solver
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.sampling import Denoiser, sample, to_uint8
from malaria_diffusion.diffusion.trajectories import FRAMES, forward_trajectory, reverse_trajectory


@pytest.fixture
def image(data):
    return data.cells[1]


def test_a_forward_trajectory_leads_from_the_image_to_noise(paper_process, image):
    states = forward_trajectory(GaussianDiffusion.from_parameters(paper_process), image, 0)
    assert list(states) == sorted(states)
    assert (len(states), min(states), max(states)) == (FRAMES, 0, 1000)
    assert all(frame.shape == image.shape and frame.dtype == np.uint8 for frame in states.values())
    assert np.array_equal(states[0], image)
    noise = keyed_generator(0, Purpose.IMAGE, 0).standard_normal(image.shape, dtype=np.float32)
    apart = states[1000].astype(int) - to_uint8(torch.from_numpy(noise)).numpy().astype(int)
    assert np.abs(apart).max() <= 2  # a signal of sqrt(4e-5) is less than a grey level


@pytest.mark.parametrize("schedule", [ScheduleKind.LINEAR, ScheduleKind.COSINE])
def test_a_forward_trajectory_loses_the_image_steadily(paper_process, image, schedule):
    diffusion = GaussianDiffusion.from_parameters(paper_process.model_copy(update={"schedule": schedule}))
    states = forward_trajectory(diffusion, image, 0)
    distances = [np.abs(frame.astype(int) - image.astype(int)).mean() for frame in states.values()]
    assert distances == sorted(distances)
    assert distances[-1] > 30


def test_frames_of_a_forward_trajectory_share_their_noise(process, image):
    diffusion = GaussianDiffusion.from_parameters(process)
    states = forward_trajectory(diffusion, image, 3)
    epsilon = keyed_generator(3, Purpose.IMAGE, 0).standard_normal(image.shape, dtype=np.float32)
    for step in list(states)[1:]:
        bar = diffusion.schedule.alpha_bars[step - 1].item()
        x_t = np.sqrt(bar) * (image / 127.5 - 1) + np.sqrt(1 - bar) * epsilon
        expected = (np.clip(x_t, -1, 1) + 1) * 127.5
        assert np.abs(states[step] - expected).max() <= 0.51


def test_another_seed_gives_another_film(process, image):
    diffusion = GaussianDiffusion.from_parameters(process)
    one, other = (forward_trajectory(diffusion, image, seed) for seed in (0, 1))
    assert not np.array_equal(one[20], other[20])
    assert np.array_equal(one[0], other[0])


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [
        (Solver.ANCESTRAL, None),
        (Solver.DDIM, 5),
        (Solver.DPM_SOLVER, 10),
        (Solver.SDE_DPM_SOLVER, 9),
        (Solver.UNIPC, 4),
    ],
)
@pytest.mark.parametrize("label", [0, 1])
def test_a_reverse_trajectory_leads_from_noise_to_the_sampled_image(
    model, sampling_parameters, solver, evaluations, label
):
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": evaluations, "seed": 5})
    states = reverse_trajectory(model, label, settings)
    made = evaluations or 20
    assert list(states) == sorted(states)
    assert (min(states), max(states)) == (0, made)
    assert len(states) == min(FRAMES, made + 1)
    noise = keyed_generator(5, Purpose.IMAGE, 0).standard_normal((3, 8, 8), dtype=np.float32)
    assert np.array_equal(states[0], to_uint8(torch.from_numpy(noise)).numpy())
    image = sample(Denoiser(model.network, model.diffusion, 8), np.array([label]), settings, progress=False)[0]
    assert np.abs(states[made].astype(int) - image.astype(int)).max() <= 1
    assert not np.array_equal(states[0], states[made])


def test_a_guided_reverse_trajectory_is_of_the_guided_image(model, sampling_parameters):
    training = model.lineage.training.model_copy(update={"label_dropout": 0.1})
    lineage = model.lineage.model_copy(update={"training": training})
    network = build_network(lineage.network, lineage.size, 2, unconditional=True)
    guided = DiffusionModel(network.eval(), model.diffusion, lineage)
    settings = sampling_parameters.model_copy(update={"guidance": 3.0, "seed": 1})
    states = reverse_trajectory(guided, 1, settings)
    image = guided.sample(np.array([1]), settings, progress=False)[0]
    assert np.abs(states[20].astype(int) - image.astype(int)).max() <= 1
    assert not np.array_equal(
        states[20], reverse_trajectory(guided, 1, settings.model_copy(update={"guidance": 1.0}))[20]
    )


def test_a_film_of_few_steps_has_as_many_frames(process, image):
    few = GaussianDiffusion.from_parameters(process.model_copy(update={"timesteps": 4}))
    assert list(forward_trajectory(few, image, 0)) == [0, 1, 2, 3, 4]
