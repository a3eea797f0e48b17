"""What cannot succeed is refused in the first second, in one sentence that names the key or the file."""

import pytest
import yaml

from ..projects import TINY, make_project


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
        ("diffusion.sampling.count.Parasitized=5", ["compares every class"]),
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
    ("parameter", "said"),
    [
        ("diffusion.sampling.count.Malaria=5", ["asks for ['Malaria']", "Parasitized"]),
        ("diffusion.training.device=cuda", ["device 'cuda' is not available here"]),
        ("diffusion.sampling.evaluations=11", ["evaluations is 11, at most T = 10"]),
    ],
)
def test_an_impossible_plan_is_refused_before_training(project, parameter, said):
    project.succeeds("run", "--pipeline", "data_processing")
    message = project.fails("run", "--pipeline", "diffusion", "--params", parameter)
    for words in said:
        assert words in message
    assert "❱" not in message  # no traceback
    assert not (project.folder / "data/02_intermediate/ddpm").exists()


@pytest.mark.parametrize(
    ("run", "parameter", "said"),
    [
        (["--pipeline", "diffusion"], "raw_cells=nowhere.zip", "in data_processing: give it to"),
        (["--pipeline", "diffusion"], "data_processing.packing.size=32", "in data_processing and validation"),
        (["--pipeline", "diffusion", "--tags", "sample"], "diffusion.training.epochs=1", "in diffusion and ablation"),
        (["--pipelines", "data_processing,validation"], "synthetic_images=a", "in diffusion: give it to"),
        (["--pipeline", "phantom"], "diffusion.bound.seed=1", "in diffusion: give it to"),
        ([], "guidance.images=10", "give it to `kedro run --pipeline guidance`, or leave it out"),
    ],
)
def test_a_parameter_that_this_run_does_not_read_is_refused_naming_who_does(project, run, parameter, said):
    message = project.fails("run", *run, "--params", parameter)
    assert f"parameter {parameter.partition('=')[0]!r} is read by nothing in this run, but" in message
    assert said in message
    assert "❱" not in message


def test_what_a_file_says_to_another_pipeline_is_fine(project):
    (project.folder / "conf/local/parameters_other.yml").write_text("ablation: {images: 20}\nphantom: {seed: 3}\n")
    project.succeeds("run", "--pipeline", "data_processing", "--params", "data_processing.split.seed=7")


def test_a_name_that_yaml_has_made_a_number_of_is_refused(project):
    (project.folder / "conf/numbers").mkdir()
    (project.folder / "conf/numbers/globals.yml").write_text("raw_cells: 2024_05\n")
    assert "raw_cells: expected a path, found 202405" in project.fails("run", "--env", "numbers")


@pytest.mark.parametrize("name", ["2024_05", "01", "no"])
def test_images_are_read_from_the_folder_that_was_named(project, name):
    message = project.fails("run", "--pipeline", "data_processing", "--params", f"raw_cells={name}")
    assert f"raw_cells: nothing at {name};" in message


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            ["--nodes", "diffusion.train_ddpm"],
            "training_plan is kept in memory only, while a run lasts: name the nodes",
        ),
        (["--from-nodes", "diffusion.export_ddpm"], "diffusion.plan_training as well, or run all of"),
    ],
)
def test_nodes_whose_input_was_in_memory_are_refused_naming_those_to_run_besides(project, part, said):
    message = project.fails("run", *part)
    assert said in message
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
