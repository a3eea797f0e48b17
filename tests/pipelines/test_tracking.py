"""Runs without MLflow, and addresses where MLflow cannot keep any."""

import contextlib
import errno
import http.server
import os
import shutil
import socket
import sqlite3
import threading
from unittest.mock import Mock

import mlflow
import pytest
import yaml
from click import ClickException

from malaria_diffusion.tracking import server as tracking_server
from malaria_diffusion.tracking.server import check_server

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
    request, monkeypatch, tmp_path, address, found, variable
):
    uri = request.getfixturevalue(address)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ClickException) as raised, check_server(uri, tmp_path):
        mlflow.MlflowClient(uri).search_experiments()
    message = raised.value.message
    assert f"at {uri} (from {'MLFLOW_TRACKING_URI' if variable else 'mlflow.yml'})" in message
    assert found in message
    way = "unset MLFLOW_TRACKING_URI" if variable else "set MLFLOW_TRACKING_URI=sqlite:///mlflow.db"
    assert message.endswith(f", or {way} to keep runs in the local file mlflow.db")
    assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [
        Exception("(sqlite3.OperationalError) unable to open database file\n[SQL: x]"),
        Exception("(sqlite3.OperationalError) attempt to write a readonly database\n[SQL: x]"),
        OSError(errno.EROFS, os.strerror(errno.EROFS), "mlflow.db.lock"),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), "mlflow.db.lock"),
    ],
)
def test_of_a_project_that_cannot_be_written_to_a_copy_is_advised_and_no_other_file(error, monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking_server, "_probe", Mock(side_effect=error))
    with pytest.raises(ClickException) as raised, check_server("sqlite:///mlflow.db", tmp_path):
        pass
    assert (
        "copy the project to a folder that can be written to, or set MLFLOW_TRACKING_URI=http" in raised.value.message
    )
    assert "other.db" not in raised.value.message


def test_a_password_is_not_shown(tmp_path):
    uri = "postgresql://somebody:secret@127.0.0.1:1/runs"
    with pytest.raises(ClickException) as raised, check_server(uri, tmp_path):
        pass
    assert "postgresql://somebody:***@127.0.0.1:1/runs" in raised.value.message
    assert "secret" not in raised.value.message


def test_a_database_that_is_not_there_yet_is_fine(tmp_path):
    with check_server("sqlite:///new/mlflow.db", tmp_path) as uri:
        assert uri == f"sqlite:///{tmp_path}/new/mlflow.db"
        assert (tmp_path / "new").is_dir()


def make_database(project, uri="sqlite:///mlflow.db"):
    """A database of one run with an artefact, made as the hook does; gives its address, and the run's id."""
    with check_server(uri, project) as place, contextlib.chdir(project):
        mlflow.set_tracking_uri(place)
        mlflow.set_experiment("malaria_diffusion")
        with mlflow.start_run() as run:
            mlflow.log_text("kept", "file.txt")
    return place, run.info.run_id


@pytest.mark.parametrize("copied", [True, False])
def test_a_project_that_was_copied_or_renamed_keeps_its_artefacts_where_it_is(tmp_path, copied):
    project, other = tmp_path / "cells, ä 100%", tmp_path / "other"
    project.mkdir()
    _, first = make_database(project)
    (shutil.copytree if copied else shutil.move)(project, other)
    place, second = make_database(other)
    client = mlflow.MlflowClient(place)
    for run in (first, second):
        assert client.get_run(run).info.artifact_uri.startswith(f"{other}/mlruns/")
        assert [file.path for file in client.list_artifacts(run)] == ["file.txt"]
    assert not any(second in str(path) for path in project.rglob("*"))


def test_a_database_of_another_mlflow_is_told_with_a_remedy_and_is_not_its_own_alternative(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make_database(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    (tmp_path / "mlflow.db").rename(tmp_path / "again.db")  # MLflow does not look again at what it has opened
    monkeypatch.setattr(tracking_server, "LOCAL", "sqlite:///again.db")
    with pytest.raises(ClickException) as raised, check_server("sqlite:///again.db", tmp_path) as uri:
        mlflow.MlflowClient(uri).search_experiments()
    assert "found version 451aebb31d03" in raised.value.message
    assert "`mlflow db upgrade sqlite:///again.db`" in raised.value.message
    assert raised.value.message.endswith("set MLFLOW_TRACKING_URI=sqlite:///other.db to keep runs in another")


def test_a_database_that_is_in_use_is_told(tmp_path):
    make_database(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        said = "database is locked; end what else uses it"
        with pytest.raises(ClickException, match=said), check_server("sqlite:///mlflow.db?timeout=0.1", tmp_path):
            pass
