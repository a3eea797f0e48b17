"""What cannot succeed is refused in the first second, in one sentence that names the key or the file."""

from pathlib import Path

import pytest
import yaml
from click import ClickException

from malaria_diffusion import cli
from malaria_diffusion.config import parse_parameters
from malaria_diffusion.hooks.preflight import PreflightHooks, refuse_unread_parameters
from malaria_diffusion.pipeline_registry import register_pipelines

from ..projects import TINY, make_project

FLOWS = register_pipelines()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("diffusion.training.epochz=3", ["diffusion.training", "unknown 'epochz'; known are epochs, batch_size"]),
        ("difusion.training.epochs=3", ["'difusion.training.epochs' is read by nothing", "diffusion.training"]),
        ("data_processing.packing.size=abc", ["data_processing.packing", "size", "abc"]),
        ("diffusion.process.beta_end=2", ["beta_end", "less than 1"]),
        ("diffusion.sampling.evaluations=2", ["evaluations", "greater than or equal to 4"]),
        ("validation.classifier.weights=nowhere.pt", ["nowhere.pt", "validation.classifier.weights"]),
        ("validation.fidelity.inception_weights=nowhere.pth", ["nowhere.pth", "no such file", "curl -LO"]),
        ("diffusion.sampling.count.Parasitized=5", ["compares every class"]),
        ("diffusion.sampling.count=4", ["diffusion.sampling.count is 4", "at least 5 cells of each"]),
        ("raw_cells=nowhere.zip", ["raw_cells", "nowhere.zip", "--params raw_cells=PATH"]),
    ],
)
def test_a_bad_parameter_is_named(project, parameter, said):
    message = project.fails("run", "--params", parameter)
    for words in said:
        assert words in message
    assert "❱" not in message  # no traceback
    assert not (project.folder / "data/03_primary").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"pipeline": "difusion"}, "--pipeline: there is none called 'difusion'; there are .*diffusion"),
        ({"pipelines": ["diffusion", "valdation"]}, "none called 'valdation'; there are .*validation"),
        ({"pipeline": "diffusion", "tags": ["sample", "smaple"]}, "no node has 'smaple'; known here are .*sample"),
        ({"pipeline": "diffusion", "node_names": ["diffusion.nothing"]}, r"named \['diffusion.nothing'\]; .*describe"),
        ({"tags": ["sample"], "node_names": ["diffusion.measure_bound"]}, "nothing to run: Pipeline contains no nodes"),
        ({"pipeline": "diffusion", "node_names": ["measure_bound"]}, r"mean: \['diffusion.measure_bound'\]"),
        ({"from_inputs": ["nothing"]}, r"datasets named \['nothing'\]"),
        ({"namespaces": ["nothing"]}, r"namespaces: \['nothing'\]"),
        ({"pipeline": "reader_study", "tags": ["score"], "is_async": True}, "--async: .*judge_readers.* leave it out"),
        ({"pipeline": "reader_study", "runner_params": {"is_async": True}}, "--async: .*judge_readers"),
    ],
)
def test_what_there_is_nothing_of_is_told_without_a_traceback(asked, said, monkeypatch):
    monkeypatch.setattr(cli, "pipelines", FLOWS)
    options = dict.fromkeys(("pipeline", "pipelines", "tags", "node_names", "from_nodes", "to_nodes"), ())
    options |= dict.fromkeys(("from_inputs", "to_outputs", "namespaces"), ())
    options |= {"is_async": False, "runner_params": {}}
    with pytest.raises(ClickException, match=said):
        cli.refuse_unknown_names(options | asked)
    cli.refuse_unknown_names(options | {"pipeline": "diffusion", "tags": ["sample"], "is_async": True})
    cli.refuse_unknown_names(options | {"pipeline": "reader_study"})


def test_a_pipeline_that_is_not_there_ends_a_run_in_one_sentence(project):
    message = project.fails("run", "--pipeline", "difusion")
    assert "none called 'difusion'" in message
    assert "❱" not in message


def test_a_runner_that_goes_round_the_project_s_catalog_and_hooks_is_refused(project):
    message = project.fails("run", "--pipeline", "data_processing", "--runner", "ParallelRunner")
    assert "ParallelRunner: " in message
    assert "give --runner ThreadRunner" in message
    assert "❱" not in message
    assert not (project.folder / "data/03_primary").exists()


@pytest.fixture(scope="module")
def processed(project):
    project.succeeds("run", "--pipeline", "data_processing")
    return project


def test_a_class_that_is_packed_and_left_out_is_told_before_training(processed):
    parameters = "diffusion.sampling.count.Parasitized=5,diffusion.sampling.count.Malaria=5"
    message = processed.fails("run", "--pipelines", "diffusion,validation", "--params", parameters)
    assert "compares every class" in message


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("diffusion.sampling.count.Malaria=5", ["asks for ['Malaria']", "Parasitized"]),
        ("diffusion.training.device=cuda", ["device 'cuda' is not available here"]),
        ("diffusion.sampling.device=cuda", ["device 'cuda' is not available here"]),
        ("diffusion.sampling.evaluations=11", ["evaluations is 11, at most T = 10"]),
    ],
)
def test_an_impossible_plan_is_refused_before_training(processed, parameter, said):
    message = processed.fails("run", "--pipeline", "diffusion", "--params", parameter)
    for words in said:
        assert words in message
    assert "❱" not in message  # no traceback
    assert not (processed.folder / "data/02_intermediate/ddpm").exists()


@pytest.mark.parametrize(
    ("pipeline", "tags", "parameter", "readers"),
    [
        ("diffusion", None, "raw_cells=nowhere.zip", ["data_processing"]),
        ("diffusion", None, "data_processing.packing.size=32", ["data_processing", "validation"]),
        ("diffusion", ["sample"], "diffusion.training.epochs=1", ["diffusion", "ablation"]),
        ("validation", None, "synthetic_images=a", ["diffusion"]),
        ("phantom", None, "diffusion.bound.seed=1", ["diffusion"]),
        ("__default__", None, "guidance.images=10", ["guidance"]),
    ],
)
def test_a_parameter_that_a_run_does_not_read_is_refused_naming_who_does(pipeline, tags, parameter, readers):
    with pytest.raises(ClickException) as raised:
        refuse_unread_parameters(parse_parameters(parameter), FLOWS[pipeline].filter(tags=tags), FLOWS)
    assert raised.value.message.startswith(f"parameter {parameter.partition('=')[0]!r} is read by nothing in this run")
    assert f"but in {' and '.join(readers)}: give it to `kedro run --pipeline {readers[0]}`" in raised.value.message
    for reader in readers:
        refuse_unread_parameters(parse_parameters(parameter), FLOWS[reader], FLOWS)


def test_a_parameter_of_another_pipeline_is_refused_before_any_work(project):
    message = project.fails("run", "--pipeline", "data_processing", "--params", "synthetic_images=elsewhere")
    assert "parameter 'synthetic_images' is read by nothing in this run, but in diffusion" in message
    assert "❱" not in message
    assert "prepare_cells" not in message


def test_what_a_file_says_to_another_pipeline_is_fine(project):
    (project.folder / "conf/local/parameters_other.yml").write_text("ablation: {images: 20}\nphantom: {seed: 3}\n")
    project.succeeds("run", "--pipeline", "data_processing", "--params", "data_processing.split.seed=7")


@pytest.mark.parametrize("found", [202405, 1.0, False, None])
@pytest.mark.parametrize("name", ["raw_cells", "synthetic_images"])
def test_a_path_that_yaml_has_made_something_else_of_is_refused(name, found):
    places = {"raw_cells": {"filepath": "a"}, "synthetic_images": {"filepath": Path("b")}}
    PreflightHooks().after_catalog_created(places)
    with pytest.raises(ClickException, match=f"{name}: expected a path, found {found}.* put it in quotes"):
        PreflightHooks().after_catalog_created(places | {name: {"filepath": found}})


def test_images_are_read_from_the_folder_that_was_named(project):
    message = project.fails("run", "--pipeline", "data_processing", "--params", "raw_cells=2024_05")
    assert f"raw_cells: nothing at {project.folder}/2024_05;" in message


def test_a_node_whose_input_was_in_memory_is_refused_naming_what_to_run_besides(project):
    message = project.fails("run", "--pipeline", "diffusion", "--from-nodes", "diffusion.export_ddpm")
    assert "training_plan is kept in memory only, while a run lasts: name the nodes diffusion.plan_training" in message
    assert "`kedro run --pipeline diffusion`" in message
    assert "❱" not in message


def test_a_file_that_is_no_archive_is_named_without_a_traceback(project, tmp_path):
    (tmp_path / "cells.zip").write_bytes(b"not a zip")
    message = project.fails("run", "--pipeline", "data_processing", "--params", f"raw_cells={tmp_path}/cells.zip")
    assert "cells.zip: not a readable zip archive" in message
    assert "❱" not in message


def test_what_the_validation_needs_is_known_before_the_training(project):
    parameters = "validation.comparison.positive_class=Malaria"
    assert "positive_class is 'Malaria', the classes are" in project.fails("run", "--params", parameters)
    assert not (project.folder / "data/02_intermediate/ddpm").exists()


def test_another_folder_of_images_without_people_runs(project, tmp_path):
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 200)):
        (tmp_path / label).mkdir()
        for number in range(40):
            pixels = np.clip(rng.normal(level, 20, (20, 24)), 1, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.jpg")
    (tmp_path / "light" / "broken.jpg").write_bytes(b"not an image")
    parameters = {**TINY, "data_processing": {"packing": {"size": 16}, "split": {"person_patterns": []}}}
    (project.folder / "conf/folder").mkdir()
    (project.folder / "conf/folder/parameters.yml").write_text(yaml.safe_dump(parameters))
    command = ("run", "--env", "folder", "--pipeline", "data_processing", "--params", f"raw_cells={tmp_path}")
    assert "rejected 1 files" in project.succeeds(*command)
    assert "light/broken.jpg" in (project.folder / "data/03_primary/rejected_cells.csv").read_text()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "http://someone:secret@127.0.0.1:9",
            ["http://someone:***@127.0.0.1:9", "Connection refused", "mlflow server --host 127.0.0.1 --port 9"],
        ),
        ("nothing://here", ["nothing://here", "unsupported URI"]),
        ("sqlite:///README.md", ["sqlite:///README.md", "file is not a database"]),
        ("sqlite:////dev/null/mlflow.db", ["/dev/null"]),
    ],
)
def test_a_tracking_server_that_is_not_there_is_named_before_any_work(project, monkeypatch, uri, said):
    monkeypatch.setitem(project.variables, "MLFLOW_TRACKING_URI", uri)
    message = project.fails("run")
    for words in [*said, "unset MLFLOW_TRACKING_URI"]:
        assert words in message
    assert "secret" not in message
    assert "❱" not in message
    assert "Running node" not in message
