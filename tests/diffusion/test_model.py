"""The finished model on disk, read by us and by plain diffusers."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel, UniPCMultistepScheduler
from torch.nn import functional

from malaria_diffusion.diffusion.config import Clipping, Prediction, SamplingParameters, ScheduleKind, Solver, Variance
from malaria_diffusion.diffusion.model import GUIDE_PARTS, PARTS, DiffusionModel
from malaria_diffusion.diffusion.network.unet import build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.schedule import LearnedSchedule, cosine_schedule, linear_schedule
from malaria_diffusion.diffusion.sampling import Denoiser, sample_states
from malaria_diffusion.errors import UserError
from malaria_diffusion.pipelines.diffusion.nodes import draw_training

LABELS = np.array([0, 1, 1])
KINDS = list(ScheduleKind)


def moved_schedule(timesteps):
    """A learned schedule that has left its start, as its module."""
    schedule = LearnedSchedule(linear_schedule(timesteps, 0.001, 0.3 if timesteps == 20 else 0.02))
    with torch.no_grad():
        schedule.first.sub_(1.3)
        schedule.log_range.add_(0.4)
        schedule.logits.add_(torch.linspace(0, 9, timesteps - 1).sin())
    return schedule


def schedule_of(kind, timesteps):
    if kind is ScheduleKind.COSINE:
        return cosine_schedule(timesteps)
    if kind is ScheduleKind.LINEAR:
        return linear_schedule(timesteps, 0.001, 0.3 if timesteps == 20 else 0.02)
    with torch.no_grad():
        return moved_schedule(timesteps)()


def variant(model, kind, prediction, timesteps=20):
    """The toy model with another process."""
    process = {"schedule": kind, "prediction": prediction, "timesteps": timesteps}
    process = model.lineage.process.model_copy(update=process)
    diffusion = GaussianDiffusion(schedule_of(kind, timesteps), prediction)
    return DiffusionModel(model.network, diffusion, model.lineage.model_copy(update={"process": process}))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model.save(path)
    return path


@pytest.fixture
def damaged(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


@torch.no_grad()
def answer(network):
    x_t = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return network(x_t, torch.tensor([1, 7, 19]), class_labels=torch.from_numpy(LABELS)).sample


def test_a_saved_model_comes_back(model, folder):
    loaded = DiffusionModel.load(folder)
    assert loaded.lineage == model.lineage
    weights, original = loaded.network.state_dict(), model.network.state_dict()
    assert weights.keys() == original.keys()
    assert all(torch.equal(weights[name], original[name]) for name in weights)
    assert torch.allclose(answer(loaded.network), answer(model.network), atol=1e-5)
    assert not loaded.network.training


@pytest.mark.parametrize("timesteps", [20, 1000])
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_comes_back_to_the_last_bit(model, tmp_path, kind, prediction, timesteps):
    saved = variant(model, kind, prediction, timesteps)
    saved.save(tmp_path)
    diffusion = DiffusionModel.load(tmp_path).diffusion
    assert diffusion.prediction is prediction
    assert diffusion.schedule.betas.dtype == torch.float64
    assert torch.equal(diffusion.schedule.betas, saved.diffusion.schedule.betas)
    bars, original = diffusion.schedule.alpha_bars, saved.diffusion.schedule.alpha_bars
    assert torch.allclose(bars, original, rtol=1e-9, atol=0)


def test_saving_does_not_change_the_model(model, tmp_path):
    before = answer(model.network)
    model.save(tmp_path)
    assert torch.equal(answer(model.network), before)


def test_half_the_space_costs_half_the_digits(model, tmp_path):
    before = answer(model.network)
    for name, dtype in (("whole", None), ("half", torch.bfloat16)):
        model.save(tmp_path / name, dtype)
    whole, half = (tmp_path / name / PARTS[1] for name in ("whole", "half"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    loaded, original = DiffusionModel.load(half.parents[1]).network.state_dict(), model.network.state_dict()
    assert all(torch.equal(loaded[name], original[name].bfloat16().float()) for name in original)
    assert all(weight.dtype == torch.float32 for weight in loaded.values())
    assert torch.equal(answer(model.network), before)


@pytest.mark.parametrize("label_dropout", [0.0, 0.1])
def test_a_model_knows_a_class_for_none_if_labels_were_dropped(model, tmp_path, label_dropout):
    training = model.lineage.training.model_copy(update={"label_dropout": label_dropout})
    lineage = model.lineage.model_copy(update={"training": training})
    network = build_network(lineage.network, 8, 2, unconditional=label_dropout > 0)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    DiffusionModel.from_weights(weights, lineage).save(tmp_path)
    loaded = DiffusionModel.load(tmp_path)
    assert loaded.lineage.null_class == (2 if label_dropout else None)
    assert loaded.network.config.num_class_embeds == (3 if label_dropout else 2)


def weights_of(model):
    return {f"network.{name}": value.clone() for name, value in model.network.state_dict().items()}


def test_a_model_is_made_of_its_weights(model):
    weights = weights_of(model)
    made = DiffusionModel.from_weights(weights, model.lineage)
    assert torch.allclose(answer(made.network), answer(model.network), atol=1e-5)
    assert torch.equal(made.diffusion.schedule.betas, model.diffusion.schedule.betas)
    assert made.diffusion.prediction is model.diffusion.prediction
    weights["network.conv_out.bias"] += 1
    assert (answer(DiffusionModel.from_weights(weights, model.lineage).network) - answer(model.network)).min() > 0.9
    assert not made.network.training


def test_a_model_keeps_its_guide(model, tmp_path):
    training = model.lineage.training.model_copy(update={"guide_epochs": 1})
    lineage = model.lineage.model_copy(update={"training": training})
    guide_weights = weights_of(model)
    guide_weights["network.conv_out.bias"] += 1
    DiffusionModel.from_weights(weights_of(model), lineage, guide_weights).save(tmp_path)
    loaded = DiffusionModel.load(tmp_path)
    assert torch.allclose(answer(loaded.network), answer(model.network), atol=1e-5)
    assert (answer(loaded.guide) - answer(loaded.network)).min() > 0.9
    assert load_model_without_guide(model, tmp_path / "without").guide is None
    weights = tmp_path / GUIDE_PARTS[1]
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"guide/diffusion_pytorch_model\.safetensors: found sha256"):
        DiffusionModel.load(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match=r"guide/diffusion_pytorch_model\.safetensors: found sha256 no file"):
        DiffusionModel.load(tmp_path)


def load_model_without_guide(model, folder):
    model.save(folder)
    return DiffusionModel.load(folder)


def test_a_model_has_the_schedule_that_was_learned(model, tmp_path):
    process = model.lineage.process.model_copy(update={"schedule": ScheduleKind.LEARNED})
    lineage = model.lineage.model_copy(update={"process": process})
    schedule = moved_schedule(20)
    weights = weights_of(model) | {f"schedule.{name}": value for name, value in schedule.state_dict().items()}
    made = DiffusionModel.from_weights(weights, lineage)
    with torch.no_grad():
        betas = schedule().betas
    assert not torch.allclose(betas, linear_schedule(20, 0.001, 0.3).betas, rtol=0.1)
    assert torch.equal(made.diffusion.schedule.betas, betas)
    assert not made.diffusion.schedule.betas.requires_grad
    made.save(tmp_path)
    assert torch.equal(DiffusionModel.load(tmp_path).diffusion.schedule.betas, betas)
    config = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    assert config["trained_betas"] == betas.tolist()


# ---- plain diffusers


def test_only_safetensors_json_and_the_card_are_in_the_folder(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"lineage.json", "README.md", *PARTS}
    assert {name.rsplit(".", 1)[1] for name in files} == {"safetensors", "json", "md"}


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("timesteps", [20, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_reads_the_same_process(model, tmp_path, kind, timesteps, prediction):
    ours = variant(model, kind, prediction, timesteps)
    ours.save(tmp_path)
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    assert len(scheduler.betas) == len(scheduler) == timesteps
    assert torch.allclose(scheduler.betas.double(), ours.diffusion.schedule.betas, rtol=1e-6, atol=0)
    assert torch.allclose(scheduler.alphas_cumprod.double(), ours.diffusion.schedule.alpha_bars, rtol=1e-3, atol=0)
    assert scheduler.config.prediction_type == prediction.value
    x_0 = torch.linspace(-3, 3, 3 * 64).view(1, 3, 8, 8)
    assert torch.equal(scheduler._threshold_sample(x_0), x_0.clamp(-1, 1))


def documented(folder, solver, timesteps, evaluations):
    """As docs/sampling.md says."""
    scheduler = folder / "scheduler"
    if solver is Solver.DDIM:
        ddim = DPMSolverMultistepScheduler.from_pretrained(scheduler, solver_order=1, use_exponential_sigmas=False)
        ddim.set_timesteps(timesteps=[round(timesteps * k / evaluations) - 1 for k in range(evaluations, 0, -1)])
        return ddim
    kind = {Solver.DPM_SOLVER: DPMSolverMultistepScheduler, Solver.UNIPC: UniPCMultistepScheduler}[solver]
    fast = kind.from_pretrained(scheduler)
    fast.set_timesteps(evaluations)
    return fast


@torch.no_grad()
def test_plain_diffusers_gives_the_same_guided_images(model, sampling_parameters, tmp_path):
    """A model with a guide and label dropout, by the loop of docs/sampling.md."""
    changed = model.lineage.training.model_copy(update={"guide_epochs": 1, "label_dropout": 0.1})
    network, guide = (build_network(model.lineage.network, 8, 2, unconditional=True).eval() for _ in range(2))
    ours = DiffusionModel(network, model.diffusion, model.lineage.model_copy(update={"training": changed}), guide)
    settings = sampling_parameters.model_copy(
        update={"solver": Solver.DPM_SOLVER, "evaluations": 9, "guidance": 1.75, "clipping": Clipping.STATIC}
    )
    states = sample_states(Denoiser(network, ours.diffusion, 8, 2, guide=guide), LABELS, settings)
    ours.save(tmp_path)

    network, guide = (UNet2DModel.from_pretrained(tmp_path / name) for name in ("unet", "guide"))
    scheduler = documented(tmp_path, Solver.DPM_SOLVER, 20, 9)
    labels, x_t = torch.from_numpy(LABELS), states[0]
    for t in scheduler.timesteps:
        output = network(x_t, t, class_labels=labels).sample
        away_from = guide(x_t, t, class_labels=torch.full_like(labels, 2)).sample
        x_t = scheduler.step(away_from + 1.75 * (output - away_from), t, x_t).prev_sample
    assert torch.allclose(x_t, states[-1], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("solver", [Solver.DDIM, Solver.DPM_SOLVER, Solver.UNIPC])
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("timesteps", [20, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_plain_diffusers_gives_the_same_images(
    model, sampling_parameters, tmp_path, kind, timesteps, prediction, solver
):
    ours = variant(model, kind, prediction, timesteps)
    evaluations = 9 if timesteps == 20 else 6
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": evaluations})
    states = sample_states(Denoiser(ours.network, ours.diffusion, 8), LABELS, settings)
    ours.save(tmp_path)

    network = UNet2DModel.from_pretrained(tmp_path / "unet")
    scheduler = documented(tmp_path, solver, timesteps, evaluations)
    scheduler.set_begin_index(0)
    x_t = states[0]
    for t in scheduler.timesteps:
        output = network(x_t, t, class_labels=torch.from_numpy(LABELS)).sample
        x_t = scheduler.step(output, t, x_t).prev_sample

    # what is rounded off an epsilon comes back in its x_0 as many times as there is noise
    assert (x_t - states[-1]).abs().max() < (2e-4 if prediction is Prediction.EPSILON else 1e-5)
    assert 0.3 < x_t.abs().max() < 2


@torch.no_grad()
@pytest.mark.parametrize("solver", [Solver.DPM_SOLVER, Solver.UNIPC])
def test_plain_diffusers_gives_the_same_images_by_shuffling_once_at_the_end(
    model, sampling_parameters, tmp_path, solver
):
    """A model of patches, by the loop of docs/sampling.md."""
    changed = model.lineage.network.model_copy(update={"patch_size": 2})
    ours = dataclasses.replace(
        model,
        network=build_network(changed, 8, 2).eval(),
        lineage=model.lineage.model_copy(update={"network": changed}),
    )
    settings = sampling_parameters.model_copy(update={"solver": solver, "evaluations": 9})
    states = sample_states(Denoiser(ours.network, ours.diffusion, 8), LABELS, settings)
    ours.save(tmp_path)

    network = UNet2DModel.from_pretrained(tmp_path / "unet")
    scheduler = documented(tmp_path, solver, 20, 9)
    patch = math.isqrt(network.config.in_channels // 3)
    x_t = functional.pixel_unshuffle(states[0], patch)
    for t in scheduler.timesteps:
        output = network(x_t, t, class_labels=torch.from_numpy(LABELS)).sample
        x_t = scheduler.step(output, t, x_t).prev_sample
    images = functional.pixel_shuffle(x_t, patch)

    assert patch == 2
    assert torch.allclose(images, states[-1], atol=1e-5)
    again = DiffusionModel.load(tmp_path)
    assert again.network.patch_size == 2
    assert torch.equal(sample_states(Denoiser(again.network, again.diffusion, 8), LABELS, settings)[-1], states[-1])


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("variance", list(Variance))
def test_plain_diffusers_takes_the_same_ancestral_steps(model, tmp_path, variance, prediction, kind):
    ours = variant(model, kind, prediction)
    ours.save(tmp_path)
    fixed = {Variance.BETA: "fixed_large", Variance.BETA_TILDE: "fixed_small"}[variance]
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "scheduler", variance_type=fixed)
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.tolist() == list(reversed(range(20)))
    x_t = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    z = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    for t in scheduler.timesteps:
        output = model.network(x_t, t, class_labels=torch.from_numpy(LABELS)).sample
        theirs = scheduler.step(output, t, x_t, generator=torch.Generator().manual_seed(2)).prev_sample
        x_t = ours.diffusion.p_step(output, x_t, t.expand(3), z, variance, Clipping.STATIC)
        assert torch.allclose(x_t, theirs, atol=1e-5)


# ---- what may have happened to the folder


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.*no model here; train one"):
        DiffusionModel.load(tmp_path / "nowhere")


def without(key):
    def drop(text):
        return json.dumps({name: value for name, value in json.loads(text).items() if name != key})

    return drop


def with_value(key, value):
    return lambda text: json.dumps(json.loads(text) | {key: value})


TO_DO = r"put a good copy there, or export the model again"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[: len(text) // 2], "not the lineage of a model"),
        (lambda text: "", "not the lineage of a model"),
        (lambda text: "[]", "not the lineage of a model"),
        (lambda text: "3", "not the lineage of a model"),
        (without("class_names"), "not the lineage.*class_names"),
        (without("sha256"), "not the lineage.*sha256"),
        (with_value("sha256", "0" * 64), "not the lineage"),
        (with_value("sha256", None), "not the lineage"),
        (with_value("sha256", {}), "found sha256 [0-9a-f]{64}.*names None"),
        (with_value("size", "many"), "not the lineage.*size"),
        (with_value("weather", "fair"), "not the lineage.*weather"),
        (with_value("training_people", ["C1"]), "found sha256"),
        (with_value("size", 16), "found sha256"),
        (lambda text: text.replace('"timesteps": 20', '"timesteps": -1'), "not the lineage.*timesteps"),
        (lambda text: text.replace("v_prediction", "sample"), "found sha256"),
    ],
)
def test_a_damaged_lineage_is_named_with_what_to_do(damaged, damage, told):
    path = damaged / "lineage.json"
    changed = damage(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(UserError, match=rf"(?s)model.lineage\.json: {told}.*{TO_DO}"):
        DiffusionModel.load(damaged)


def test_a_lineage_that_is_not_text_is_named(damaged):
    (damaged / "lineage.json").write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(UserError, match=r"lineage\.json: not the lineage of a model"):
        DiffusionModel.load(damaged)


@pytest.mark.parametrize("name", PARTS)
def test_a_missing_part_is_named_with_what_to_do(damaged, name):
    (damaged / name).unlink()
    with pytest.raises(UserError, match=rf"model.{name}: found sha256 no file, .*lineage\.json names .*{TO_DO}"):
        DiffusionModel.load(damaged)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("how", ["cut", "flip"])
def test_a_damaged_part_is_named_with_what_to_do(damaged, name, place, how):
    content = bytearray((damaged / name).read_bytes())
    position = round(place * (len(content) - 1))
    if how == "flip":
        content[position] ^= 1
    else:
        content = content[:position]
    (damaged / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"model.{name}: found sha256 [0-9a-f]*, .*lineage\.json names .*{TO_DO}"):
        DiffusionModel.load(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        without("trained_betas"),
        with_value("trained_betas", None),
        with_value("trained_betas", "0.1"),
        with_value("trained_betas", [0.1] * 19),
        with_value("trained_betas", [0.1] * 19 + [1.0]),
        with_value("trained_betas", [0.1] * 19 + [-0.1]),
        with_value("prediction_type", "epsilon"),
        with_value("sample_max_value", 10.0),
    ],
)
def test_a_changed_scheduler_is_named(damaged, damage):
    path = damaged / "scheduler/scheduler_config.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"scheduler_config\.json: found sha256"):
        DiffusionModel.load(damaged)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_another_model_is_named(model, damaged, tmp_path, name):
    network = build_network(model.lineage.network.model_copy(update={"norm_groups": 8}), 8, 2)
    diffusion = GaussianDiffusion(cosine_schedule(20), Prediction.EPSILON)
    DiffusionModel(network, diffusion, model.lineage).save(tmp_path / "another")
    shutil.copy(tmp_path / "another" / name, damaged / name)
    with pytest.raises(UserError, match=rf"model.{name}: found sha256"):
        DiffusionModel.load(damaged)


def test_a_folder_may_be_moved(folder, model, tmp_path):
    shutil.copytree(folder, tmp_path / "a" / "b")
    assert DiffusionModel.load(tmp_path / "a" / "b").lineage == model.lineage


@pytest.mark.parametrize("value", [math.nan, None, 0.25])
def test_a_kernel_distance_comes_back(model, tmp_path, value):
    lineage = model.lineage.model_copy(update={"kernel_distance": value, "best_epoch": 2})
    dataclasses.replace(model, lineage=lineage).save(tmp_path)
    assert str(DiffusionModel.load(tmp_path).lineage.kernel_distance) == str(value)


def test_generated_cells_say_how_they_were_made_and_are_those_that_sample_gives(model):
    parameters = SamplingParameters(count={model.lineage.class_names[1]: 3}, evaluations=4, seed=5, precision="float32")
    cells = model.generate(parameters)
    np.testing.assert_array_equal(cells.pixels, model.sample(np.array([1, 1, 1]), parameters, progress=False))
    assert cells.labels.tolist() == [model.lineage.class_names[1]] * 3
    assert set(cells.table["model_identity"]) == {model.lineage.identity}
    assert cells.table[["seed", "evaluations", "solver"]].drop_duplicates().values.tolist() == [[5, 4, "dpm-solver++"]]
    with pytest.raises(UserError, match="asks for"):
        model.generate(SamplingParameters(count={"Giraffe": 1}))


def test_what_is_exported_is_what_it_is_called():
    import malaria_diffusion as md

    assert [getattr(md, name).__name__ for name in md.__all__] == md.__all__
    with pytest.raises(AttributeError, match="no attribute 'Cell'"):
        _ = md.Cell


def test_a_copy_of_a_model_does_not_say_where_it_was_read_from(folder, tmp_path):
    DiffusionModel.load(folder).save(tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.json"):
        assert str(folder) not in path.read_text()
    DiffusionModel.load(tmp_path / "copy")


def test_curves_of_another_training_are_not_drawn_as_the_model_s(model):
    history = pd.DataFrame({"images_seen": [4, 8], "loss": [1.0, 0.5], "val_loss": [1.0, 0.6]})
    history = history.assign(kernel_distance=[2.0, 1.0])
    record = {"identity": model.lineage.identity, "epochs": model.lineage.epochs}
    assert model.lineage.kind in draw_training(history, record, model).axes[0].get_title()
    for other in ({"identity": "another"}, {"epochs": model.lineage.epochs + 1}):
        with pytest.raises(UserError, match=r"training_history is of training .* but ddpm is of"):
            draw_training(history, record | other, model)
