"""A study whose models and reports are in an object store, gone on with from another machine."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request

import mlflow
import numpy as np
import pytest
import yaml

from ..projects import SCRIPTS, make_project
from .servers import free_port

pytestmark = pytest.mark.integration
PLACES = {"models": "s3://studies/tiny/models", "reports": "s3://studies/tiny/reports"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A client of moto's S3 server, which runs in a process of its own, with an empty bucket."""
    import boto3  # of the extra `integration`, which collecting must not need

    address = f"http://127.0.0.1:{free_port()}"
    command = [SCRIPTS / "moto_server", "-H", "127.0.0.1", "-p", address.rpartition(":")[2]]
    with (
        pytest.MonkeyPatch.context() as environment,
        (tmp_path_factory.mktemp("store") / "printed.txt").open("w") as printed,
        subprocess.Popen(command, stdout=printed, stderr=printed) as process,
    ):
        environment.setenv("AWS_ENDPOINT_URL", address)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/moto-api", timeout=5).close()
                    break
                assert process.poll() is None
                assert time.monotonic() < deadline, "the server did not answer"
                time.sleep(0.2)
            client = boto3.client("s3")
            client.create_bucket(Bucket="studies")
            yield client
        finally:
            process.terminate()


def project_with_store(folder):
    project = make_project(folder)
    (project.folder / "conf/local/globals.yml").write_text(yaml.safe_dump(PLACES))
    return project


def stored(store, prefix="tiny/"):
    return {entry["Key"]: entry for entry in store.list_objects_v2(Bucket="studies", Prefix=prefix)["Contents"]}


def content(store, key):
    return store.get_object(Bucket="studies", Key=key)["Body"].read()


@pytest.fixture(scope="module")
def first(store, tmp_path_factory):
    project = project_with_store(tmp_path_factory.mktemp("first"))
    project.succeeds("run")
    return project


def test_models_and_reports_of_a_whole_study_are_in_the_store_alone(store, first):
    keys = set(stored(store))
    for name in (
        "report.html",
        "summary.json",
        "figure_1_process.png",
        "recognised.csv",
        "classification_metrics.json",
    ):
        assert f"tiny/reports/{name}" in keys
    assert content(store, "tiny/reports/figure_1_process.png").startswith(b"\x89PNG")
    for name in ("ddpm", "yolo_classifier.pt"):
        version = json.loads(content(store, f"tiny/models/{name}/finished.json"))["version"]
        assert any(key.startswith(f"tiny/models/{name}/{version}/{name}") for key in keys)
    assert not any(key.endswith(".writable") for key in keys)
    for name in ("06_models", "08_reporting"):
        assert not (first.folder / "data" / name).exists()


def test_mlflow_holds_the_results_as_ever(first):
    mlflow.set_tracking_uri(f"sqlite:///{first.folder}/mlflow.db")
    (run_id,) = mlflow.search_runs(experiment_names=["malaria_diffusion"], filter_string="tags.pipeline LIKE '%'")[
        "run_id"
    ]
    held = {artifact.path for artifact in mlflow.MlflowClient().list_artifacts(run_id)}
    assert {"report.html", "summary.json", "figure_1_process.png", "recognised.csv"} <= held


def test_another_machine_with_the_cells_alone_samples_and_validates(store, first, tmp_path):
    second = project_with_store(tmp_path)
    (second.folder / "data/01_raw/phantom_cells.zip").unlink()
    shutil.copytree(first.folder / "data/03_primary", second.folder / "data/03_primary")
    before = stored(store, "tiny/models/ddpm/")
    printed = second.succeeds("run", "--pipeline", "diffusion", "--tags", "sample")
    assert "s3://studies/tiny/reports: synthetic_sheet.png" in printed
    made, expected = (
        np.load(project.folder / "data/07_model_output/synthetic_cells.npy") for project in (second, first)
    )
    assert np.array_equal(made, expected)
    store.delete_object(Bucket="studies", Key="tiny/reports/report.html")
    printed = second.succeeds("run", "--pipeline", "validation")
    assert "s3://studies/tiny/reports/report.html" in printed
    assert b"These are phantom cells" in content(store, "tiny/reports/report.html")
    assert stored(store, "tiny/models/ddpm/").keys() == before.keys()


def test_a_store_out_of_reach_is_said_before_any_work(first, monkeypatch):
    def refused(changes):
        (first.folder / "conf/local/globals.yml").write_text(yaml.safe_dump(PLACES | changes))
        message = first.fails("run")
        assert "Traceback" not in message
        assert "packing cells" not in message
        return message

    assert "s3://nosuchbucket: nothing can be written there" in refused({"reports": "s3://nosuchbucket"})
    assert "gs://studies: cannot be reached from here" in refused({"models": "gs://studies"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert "nothing can be written there" in refused({})
