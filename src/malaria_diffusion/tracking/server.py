"""Finding out in seconds whether MLflow can keep its runs where it is told to; MLflow itself tries for minutes."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import click
import requests
import sqlalchemy
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from malaria_diffusion.files import locked
from malaria_diffusion.tracking.places import database_file, follow, in_project

TIMEOUT = 5  # seconds
VARIABLE = "MLFLOW_TRACKING_URI"
LOCAL = "sqlite:///mlflow.db"  # of mlflow.yml
UNWRITABLE = "unable to open|read-?only|permission denied"  # what SQLite and systems say of a folder


@contextmanager
def check_server(uri: str, project: Path) -> Iterator[str]:
    """Try `uri` before MLflow connects to it in the `with` block, in which no other run of the project does.

    Args:
        uri: Of a server or database; that of a relative file means one of the project.
        project: The project's folder.

    Yields:
        The address with an absolute path.

    Raises:
        click.ClickException: no server, no database, or nothing that MLflow knows; one sentence that says how to go on.
    """
    place = in_project(uri, project)
    try:
        _probe(place)
    except Exception as error:  # of drivers, sockets and files
        raise click.ClickException(_sentence(uri, project, error)) from error
    file = database_file(place)
    try:
        with locked(file) if file else nullcontext():  # two that make the tables at once are one too many
            follow(place, project)
            yield place
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise click.ClickException(_sentence(uri, project, error)) from error


def _probe(uri: str) -> None:
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        try:
            answer = requests.get(_health(uri), timeout=TIMEOUT)
        except requests.exceptions.SSLError:  # somebody is there; MLflow has settings of its own for certificates
            return
        if answer.status_code >= 500:  # on which MLflow would insist
            answer.raise_for_status()
    elif scheme.partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql"):
        url = sqlalchemy.make_url(uri)
        if file := database_file(uri):
            file.parent.mkdir(parents=True, exist_ok=True)
        waiting = {"connect_timeout": TIMEOUT} if scheme[:5] in ("postg", "mysql") else {}
        engine = sqlalchemy.create_engine(url, connect_args=waiting)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


def _sentence(uri: str, project: Path, error: Exception) -> str:
    shown = re.sub(r"//([^:/@]*):[^@/]*@", r"//\1:***@", uri)
    reason = re.split(r"\n|\. ", str(error).strip())[0]
    here = os.environ.get(VARIABLE) == uri
    address = urlsplit(uri)
    if address.scheme in ("http", "https"):
        if isinstance(error, requests.RequestException) and error.response is None:
            reason = "no answer" if isinstance(error, requests.Timeout) else reason.rpartition(": ")[2].strip("'\")(")
        tried = f"asked {_health(shown)} for {TIMEOUT} s at most"
        port = address.port or (443 if address.scheme == "https" else 80)
        start = f"mlflow server --host {address.hostname} --port {port} --backend-store-uri sqlite:///mlflow.db"
        remedy = f"start the server with `{start}`"
    else:
        tried = "tried to open it"
        remedy = "give http://HOST:PORT of a server or sqlite:///FILE"
    if "database schema" in reason:
        remedy = (
            "another version of MLflow made it: install that one, or, if it is older, copy the database and run "
            f"`mlflow db upgrade {shown}`"
        )
    elif "locked" in reason:
        remedy = "end what else uses it"
    if in_project(uri, project) == in_project(LOCAL, project) and re.search(UNWRITABLE, reason, re.IGNORECASE):
        remedy = "copy the project to a folder that can be written to"  # where its results have to go, too
        other = f"set {VARIABLE}=http://HOST:PORT to keep runs on a server"
    elif in_project(uri, project) == in_project(LOCAL, project):
        other = f"move that file away, or set {VARIABLE}=sqlite:///other.db to keep runs in another"
    else:
        other = (
            f"unset {VARIABLE}" if here else f"set {VARIABLE}={LOCAL}"
        ) + " to keep runs in the local file mlflow.db"
    return (
        f"MLflow cannot keep this run at {shown} (from {VARIABLE if here else 'mlflow.yml'}): {tried}, found "
        f"{reason}; {remedy}, or {other}"
    )


def _health(uri: str) -> str:
    return f"{uri.rstrip('/')}/health"
