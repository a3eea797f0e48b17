"""Runs without MLflow, and addresses where MLflow cannot keep any."""

import contextlib
import http.server
import socket
import threading

import mlflow
import pytest
import yaml
from click import ClickException

from malaria_diffusion import tracking_server
from malaria_diffusion.tracking_server import check_server

from ..projects import make_project


def test_a_run_without_tracking_runs_and_leaves_no_trace(tmp_path):
    project = make_project(tmp_path)
    off = {"tracking": {"disable_tracking": {"pipelines": ["data_processing"]}}}
    (tmp_path / "conf/local/mlflow.yml").write_text(yaml.safe_dump(off))
    assert "next     kedro run --pipeline diffusion" in project.succeeds("run", "--pipeline", "data_processing")
    assert (tmp_path / "data/03_primary/cells.npy").exists()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert not client.search_runs([client.get_experiment_by_name("malaria_diffusion").experiment_id])


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def silent(monkeypatch):
    """One that takes connections and never answers."""
    monkeypatch.setattr(tracking_server, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stranger():
    """A web server that is no MLflow."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def no_folder(tmp_path):
    """A database in what is no folder."""
    (tmp_path / "file").touch()
    return f"sqlite:///{tmp_path}/file/mlflow.db"


@pytest.mark.parametrize(
    ("address", "found"),
    [("nobody", "refused"), ("silent", "no answer"), ("stranger", "501 != 200"), ("no_folder", "File exists")],
)
@pytest.mark.parametrize("variable", [True, False], ids=["variable", "mlflow.yml"])
def test_an_address_that_keeps_no_runs_is_named_in_one_sentence_with_a_way_on(
    request, monkeypatch, address, found, variable
):
    uri = request.getfixturevalue(address)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ClickException) as raised, check_server(uri):
        mlflow.MlflowClient(uri).search_experiments()
    message = raised.value.message
    assert f"at {uri} (from {'MLFLOW_TRACKING_URI' if variable else 'mlflow.yml'})" in message
    assert found in message
    way = "unset MLFLOW_TRACKING_URI" if variable else "set MLFLOW_TRACKING_URI=sqlite:///mlflow.db"
    assert message.endswith(f", or {way} to keep runs in the local file mlflow.db")
    assert "\n" not in message


def test_a_password_is_not_shown():
    with pytest.raises(ClickException) as raised, check_server("postgresql://somebody:secret@127.0.0.1:1/runs"):
        pass
    assert "postgresql://somebody:***@127.0.0.1:1/runs" in raised.value.message
    assert "secret" not in raised.value.message


def test_a_database_that_is_not_there_yet_is_fine(tmp_path):
    with contextlib.chdir(tmp_path), check_server("sqlite:///new/mlflow.db"):
        assert (tmp_path / "new").is_dir()
