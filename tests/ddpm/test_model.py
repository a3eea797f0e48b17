"""The finished model on disk, read by us and by plain diffusers."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel, UniPCMultistepScheduler

from malaria_diffusion.ddpm.model import Model, load_model, model_from_weights, save_model
from malaria_diffusion.ddpm.parameters import Prediction, Solver
from malaria_diffusion.ddpm.sampling import sample_states

LABELS = np.array([0, 1, 1])


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_model(model, path)
    return path


@pytest.fixture
def damaged(model, tmp_path):
    save_model(model, tmp_path)
    return tmp_path


@torch.no_grad()
def answer(network):
    x_t = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return network(x_t, torch.tensor([1, 7, 19]), class_labels=torch.from_numpy(LABELS)).sample


def test_a_saved_model_comes_back(model, folder):
    loaded = load_model(folder)
    assert loaded.lineage == model.lineage
    weights, original = loaded.network.state_dict(), model.network.state_dict()
    assert weights.keys() == original.keys()
    assert all(torch.equal(weights[name], original[name]) for name in weights)
    assert torch.allclose(answer(loaded.network), answer(model.network), atol=1e-5)
    assert torch.equal(loaded.diffusion.schedule.betas, model.diffusion.schedule.betas)
    assert loaded.diffusion.prediction is model.diffusion.prediction
    assert not loaded.network.training


def test_saving_does_not_change_the_model(model, tmp_path):
    before = answer(model.network)
    save_model(model, tmp_path)
    assert torch.equal(answer(model.network), before)


def test_a_model_is_made_of_its_weights(model):
    weights = {name: value.clone() for name, value in model.network.state_dict().items()}
    made = model_from_weights(weights, model.lineage)
    assert torch.allclose(answer(made.network), answer(model.network), atol=1e-5)
    weights["conv_out.bias"] += 1
    assert (answer(model_from_weights(weights, model.lineage).network) - answer(model.network)).min() > 0.9
    assert not made.network.training


def test_only_safetensors_and_json_are_in_the_folder(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "lineage.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    }


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("paper", [False, True])
def test_diffusers_reads_the_same_process(model, paper_process, tmp_path, prediction, paper):
    process = (paper_process if paper else model.lineage.process).model_copy(update={"prediction": prediction})
    ours = Model(model.network, model.lineage.model_copy(update={"process": process}))
    save_model(ours, tmp_path)
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    assert len(scheduler.betas) == process.timesteps
    assert torch.allclose(scheduler.betas.double(), ours.diffusion.schedule.betas, rtol=1e-6, atol=0)
    assert scheduler.config.prediction_type == prediction.value
    assert scheduler.config.clip_sample
    assert scheduler.config.clip_sample_range == 1


@torch.no_grad()
@pytest.mark.parametrize(
    ("solver", "kind"),
    [(Solver.DPM_SOLVER, DPMSolverMultistepScheduler), (Solver.UNIPC, UniPCMultistepScheduler)],
)
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("paper", [False, True])
def test_plain_diffusers_gives_the_same_images(
    model, paper_process, sampling_parameters, tmp_path, solver, kind, prediction, paper
):
    process = (paper_process if paper else model.lineage.process).model_copy(update={"prediction": prediction})
    ours = Model(model.network, model.lineage.model_copy(update={"process": process}))
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": 8})
    states = sample_states(ours.network, ours.diffusion, LABELS, 8, settings)
    save_model(ours, tmp_path)

    network = UNet2DModel.from_pretrained(tmp_path / "unet")
    scheduler = kind.from_config(DDPMScheduler.from_pretrained(tmp_path / "scheduler").config)
    scheduler.set_timesteps(8)
    x_t = states[0]
    for t in scheduler.timesteps:
        output = network(x_t, t, class_labels=torch.from_numpy(LABELS)).sample
        x_t = scheduler.step(output, t, x_t).prev_sample

    # the random network's x_0 is unbounded under epsilon prediction, hence relative to the largest value
    apart, largest = (x_t - states[-1]).abs().max().item(), x_t.abs().max().item()
    assert apart < 1e-5 * max(1, largest / 10)
    assert largest > 0.5


@torch.no_grad()
def test_plain_diffusers_walks_all_steps_of_the_ancestral_sampler(model, sampling_parameters, folder):
    states = sample_states(model.network, model.diffusion, LABELS, 8, sampling_parameters)
    network = UNet2DModel.from_pretrained(folder / "unet")
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.tolist() == list(reversed(range(20)))
    for before, after, t in zip(states, states[1:], scheduler.timesteps, strict=False):
        output = network(before, t, class_labels=torch.from_numpy(LABELS)).sample
        noisy = scheduler.step(output, t, before, generator=torch.Generator().manual_seed(0)).prev_sample
        if t > 0:  # put our noise in the place of theirs
            z = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
            deviation = scheduler._get_variance(t).sqrt()
            ours = model.diffusion.p_step(output, before, t.expand(3), z)
            assert torch.allclose(ours, noisy, atol=1e-5)
            mean = noisy - deviation * z
            assert ((after - mean) / deviation).std().item() == pytest.approx(1, abs=0.15)
        else:
            assert torch.allclose(after, noisy, atol=1e-5)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*no model here.*kedro run"):
        load_model(tmp_path / "nowhere")


def without(key):
    def drop(text):
        return json.dumps({name: value for name, value in json.loads(text).items() if name != key})

    return drop


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[: len(text) // 2], "JSON"),
        (lambda text: "", "JSON"),
        (lambda text: "[]", "object"),
        (without("class_names"), "class_names"),
        (lambda text: text.replace('"timesteps": 20', '"timesteps": -1').replace('"timesteps":20', ""), "timesteps"),
    ],
)
def test_a_damaged_lineage_is_named(damaged, damage, told):
    path = damaged / "lineage.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=rf"(?s)lineage\.json: not the lineage of a model.*{told}"):
        load_model(damaged)


def test_a_lineage_that_is_not_text_is_named(damaged):
    (damaged / "lineage.json").write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(ValueError, match=r"lineage\.json: not the lineage of a model"):
        load_model(damaged)


@pytest.mark.parametrize("name", ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"])
def test_a_missing_part_is_an_error_with_the_folder(damaged, name):
    (damaged / name).unlink()
    with pytest.raises(OSError, match="unet"):
        load_model(damaged)
