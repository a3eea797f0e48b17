"""The card of a model: read by Hugging Face's own reader, true to the lineage, and its examples run."""

import re
import tomllib

import pytest
import yaml
from huggingface_hub import ModelCard

from malaria_diffusion.cards import CITATION, LICENSE
from malaria_diffusion.diffusion.card import model_card
from malaria_diffusion.diffusion.config import Prediction, ScheduleKind
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion

from ..projects import ROOT


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model.save(path)
    return path


@pytest.fixture(scope="module")
def card(folder):
    return ModelCard.load(folder / "README.md")


def test_a_saved_model_has_a_card_that_hugging_face_reads(card, model):
    assert card.data.to_dict() == {
        "library_name": "diffusers",
        "license": "agpl-3.0",
        "pipeline_tag": "unconditional-image-generation",
        "tags": card.data.tags,
    }
    assert ModelCard(card.content).content == card.content == model_card(model.lineage, model.weights)


def test_it_says_all_that_is_known_of_the_training_and_no_name(model):
    people = model.lineage.model_copy(update={"training_people": ["Anna", "Bert"]})
    text = model_card(people, 12345)
    assert "Anna" not in text
    assert "12,345 weights" in text
    for part in (people.process, people.network, people.training):
        for name, value in part.model_dump(mode="json").items():
            assert f"{name} {value}" in text
    for fact in (people.identity, people.training_people_hash, people.cells_fingerprint, "1 phantom cells of 2 people"):
        assert fact in text


def test_what_has_not_been_measured_or_recorded_is_said(model, card):
    assert "Not measured." in card.text
    assert card.data.eval_results is None
    assert card.text.count("not recorded") == 3  # time, versions, kernel distance
    known = {"training_seconds": 5400.0, "software": {"python": "3.11", "torch": "2.9"}}
    text = model_card(model.lineage.model_copy(update=known | {"best_epoch": 2, "kernel_distance": 0.01234}), 1)
    for said in ("1.5 hours by the clock", "python 3.11, torch 2.9", "epoch 2", "0.0123"):
        assert said in text
    assert "not recorded" not in text


@pytest.mark.parametrize(("phantom", "says"), [(True, "Nothing measured on them"), (False, "learned by heart")])
def test_limits_are_those_of_the_cells(model, phantom, says):
    text = model_card(model.lineage.model_copy(update={"phantom": phantom}), 1)
    assert says in text
    assert ("phantom cells" in text) == phantom


def test_the_examples_run_in_the_folder_of_the_model(folder, card, monkeypatch):
    examples = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert len(examples) == 2
    checks = "assert cells.pixels.shape == (16, 3, 8, 8)", "assert images.shape == (2, 3, 8, 8)"
    monkeypatch.chdir(folder)
    names = {}
    for example, check in zip(examples, checks, strict=True):
        exec(f"{example}\n{check}", names)


@pytest.mark.parametrize(("prediction", "algorithm"), [("epsilon", "sde-dpmsolver++"), ("v_prediction", "dpmsolver++")])
def test_the_loop_with_diffusers_alone_runs_where_the_first_timestep_occurs_twice(
    model, tmp_path, monkeypatch, prediction, algorithm
):
    changed = {"timesteps": 10, "schedule": ScheduleKind.COSINE, "prediction": Prediction(prediction)}
    process = model.lineage.process.model_copy(update=changed)
    lineage = model.lineage.model_copy(update={"process": process})
    DiffusionModel(model.network, GaussianDiffusion.from_parameters(process), lineage).save(tmp_path)
    loop = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(loop, names)
    first, second = names["scheduler"].timesteps[:2]
    assert first == second
    assert names["scheduler"].config.algorithm_type == algorithm
    assert names["images"].shape == (2, 3, 8, 8)
    assert names["images"].isfinite().all()


def test_the_card_may_be_changed_and_left_out(model, tmp_path):
    model.save(tmp_path)
    (tmp_path / "README.md").write_text("our own words")
    assert DiffusionModel.load(tmp_path).lineage == model.lineage
    (tmp_path / "README.md").unlink()
    DiffusionModel.load(tmp_path)


def test_names_of_classes_leave_the_front_matter_and_tables_whole(model):
    text = model_card(model.lineage.model_copy(update={"class_names": ["a|b: c", "---"]}), 1)
    assert ModelCard(text).data.license == LICENSE
    assert "a|b: c, ---" in text


def test_licence_and_citation_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"].lower().startswith(LICENSE)
    for reference in yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]:
        assert reference["title"] in CITATION
        for author in reference["authors"]:
            assert author["family-names"].replace("ò", "{\\`o}") in CITATION


def test_the_card_of_the_shipped_model_is_read_too():
    data = ModelCard.load(ROOT / "models/nlm-64/README.md").data.to_dict()
    assert (data["license"], data["library_name"]) == (LICENSE, "diffusers")
