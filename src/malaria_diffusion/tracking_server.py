"""Finding out in seconds whether MLflow can keep its runs where it is told to; MLflow itself tries for minutes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
import requests
from mlflow.exceptions import MlflowException

TIMEOUT = 5  # seconds
VARIABLE = "MLFLOW_TRACKING_URI"


@contextmanager
def check_server(uri: str) -> Iterator[None]:
    """Try `uri` before MLflow connects to it in the `with` block.

    Raises:
        click.ClickException: no server, no database, or nothing that MLflow knows; one sentence that says how to go on.
    """
    try:
        _probe(uri)
    except Exception as error:  # of drivers, sockets and files
        raise click.ClickException(_sentence(uri, error)) from error
    try:
        yield
    except MlflowException as error:
        raise click.ClickException(_sentence(uri, error)) from error


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
        import sqlalchemy

        url = sqlalchemy.make_url(uri)
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        waiting = {"connect_timeout": TIMEOUT} if scheme[:5] in ("postg", "mysql") else {}
        engine = sqlalchemy.create_engine(url, connect_args=waiting)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


def _sentence(uri: str, error: Exception) -> str:
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
        mend = f"start the server with `{start}`"
    else:
        tried = "tried to open it"
        mend = "give http://HOST:PORT of a server or sqlite:///FILE"
    other = f"unset {VARIABLE}" if here else f"set {VARIABLE}=sqlite:///mlflow.db"
    return (
        f"MLflow cannot keep this run at {shown} (from {VARIABLE if here else 'mlflow.yml'}): {tried}, found "
        f"{reason}; {mend}, or {other} to keep runs in the local file mlflow.db"
    )


def _health(uri: str) -> str:
    return f"{uri.rstrip('/')}/health"
