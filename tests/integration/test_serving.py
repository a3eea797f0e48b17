"""A tiny study on an MLflow server of its own; both registered models answer HTTP requests as the library does."""

import contextlib
import json
import re
import subprocess
import urllib.error
import urllib.request

import mlflow
import numpy as np
import pytest
import yaml

from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.diffusion.sampling import sample

from ..projects import ROOT, SCRIPTS, TINY, make_project
from .servers import free_port, running

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A project whose runs went to a server that only the environment names."""
    project = make_project(tmp_path_factory.mktemp("project"))
    store = tmp_path_factory.mktemp("store")
    uri = f"http://127.0.0.1:{free_port()}"
    command = [SCRIPTS / "mlflow", "server", "--backend-store-uri", f"sqlite:///{store}/runs.db", "--workers", "1"]
    command += ["--artifacts-destination", str(store / "artifacts"), "--port", uri.rpartition(":")[2]]
    with running(command, f"{uri}/health", store, project.environment):
        project.variables["MLFLOW_TRACKING_URI"] = uri
        project.succeeds("run", "--pipeline", "data_processing")
        project.succeeds("run", "--pipeline", "diffusion")
        project.succeeds("run", "--pipeline", "validation", "--to-nodes", "validation.classification.train_yolo")
        yield project


@pytest.fixture(scope="module")
def client(study):
    uri = study.variables["MLFLOW_TRACKING_URI"]
    return mlflow.MlflowClient(uri, uri)


@pytest.fixture(scope="module")
def addresses(study, tmp_path_factory):
    """Where both registered models are served."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in ("ddpm", "classifier"):
            port = free_port()
            command = [SCRIPTS / "mlflow", "models", "serve", "--env-manager", "local", "--port", str(port)]
            command += ["--model-uri", f"models:/malaria_diffusion-{name}/1"]
            folder = tmp_path_factory.mktemp(name)
            # the package travels with the model, so the server must do without this checkout
            environment = {key: value for key, value in study.environment.items() if key != "PYTHONPATH"}
            stack.enter_context(running(command, f"http://127.0.0.1:{port}/ping", folder, environment))
            found[name] = f"http://127.0.0.1:{port}"
        yield found


@pytest.fixture
def served(addresses):
    """Ask a registered model for its predictions."""

    def ask(name, request):
        body, header = json.dumps(request).encode(), {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{addresses[name]}/invocations", body, header)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)["predictions"]

    return ask


def test_a_server_named_by_the_environment_holds_runs_artefacts_and_models(study, client):
    experiment = client.get_experiment_by_name("malaria_diffusion")
    found = {
        run.data.tags["pipeline"]: run
        for run in client.search_runs([experiment.experiment_id], "tags.pipeline LIKE '%'")
    }
    assert set(found) == {"data_processing", "diffusion", "validation"}
    run = found["diffusion"]
    assert run.info.status == "FINISHED"
    assert run.data.params["diffusion.training.epochs"] == str(TINY["diffusion"]["training"]["epochs"])
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"environment.txt", "synthetic_sheet.png", "variational_bound.json"} <= names
    for name in ("ddpm", "classifier"):
        (version,) = client.search_model_versions(f"name = 'malaria_diffusion-{name}'")
        assert version.status == "READY"
    assert not (study.folder / "mlflow.db").exists()
    assert not (study.folder / "mlruns").exists()


def test_the_classifier_answers_with_the_library_s_probabilities(study, served):
    cells = np.load(study.folder / "data/03_primary/cells.npy")[:5]
    expected = predict(study.folder / "data/06_models/yolo_classifier.pt", cells)
    answer = served("classifier", {"inputs": cells.transpose(0, 2, 3, 1).tolist()})
    assert list(answer[0]) == ["Parasitized", "Uninfected"]
    np.testing.assert_allclose([list(row.values()) for row in answer], expected, atol=1e-5)


def test_the_classifier_takes_images_of_any_size(served):
    images = np.random.default_rng(0).integers(0, 256, (2, 23, 41, 3), np.uint8)
    for row in served("classifier", {"inputs": images.tolist()}):
        assert sum(row.values()) == pytest.approx(1, abs=1e-5)


def test_the_ddpm_answers_with_the_library_s_images(study, served):
    model = DiffusionModel.load(study.folder / "data/06_models/ddpm")
    default = yaml.safe_load((ROOT / "conf/base/parameters_diffusion.yml").read_text())
    guidance = default["diffusion"]["sampling"]["guidance"]
    rows = [("Uninfected", 3, 5), ("Parasitized", 1, 0)]
    expected = []
    for label, count, seed in rows:
        parameters = SamplingParameters(
            count=count, seed=seed, solver="dpm-solver++", evaluations=4, variance="beta_tilde", clipping="static",
            guidance=guidance, batch_size=2, precision="float32", device="cpu",
        )  # fmt: skip
        labels = np.full(count, model.lineage.class_names.index(label))
        expected.append(sample(model.denoiser, labels, parameters, progress=False))
    request = {"dataframe_split": {"columns": ["label", "count", "seed"], "data": rows}}
    answer = np.array(served("ddpm", request))
    assert answer.shape == (4, 16, 16, 3)
    # the same up to the rounding of another process's arithmetic
    assert np.abs(answer - np.concatenate(expected).transpose(0, 2, 3, 1).astype(int)).max() <= 1
    np.testing.assert_array_equal(answer, served("ddpm", request))


def test_an_unknown_class_is_named(served):
    request = {"dataframe_records": [{"label": "Malaria", "count": 1, "seed": 0}]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        served("ddpm", request)
    assert caught.value.code == 400
    assert "label 'Malaria' is not a class of this model" in caught.value.read().decode()


def test_the_how_to_s_requests_are_answered(addresses, tmp_path):
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/mlflow.md").read_text(), re.DOTALL)
    (script,) = (block for block in blocks if "curl" in block)
    for name, documented in (("ddpm", "http://127.0.0.1:5001"), ("classifier", "http://127.0.0.1:5002")):
        assert documented in script
        script = script.replace(documented, addresses[name])
    command = ["bash", "-euo", "pipefail", "-c", script]
    answer = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout)
    assert [set(row) for row in answer["predictions"]] == [{"Parasitized", "Uninfected"}] * 2
