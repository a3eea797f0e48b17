"""How a run ends that a user can put right, or whoever keeps the machine: with one sentence, in this one place."""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import click
from kedro.io import DatasetError
from mlflow.exceptions import MlflowException

from malaria_diffusion.errors import UserError

REMEDIES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or ask for more",
    errno.EACCES: "let this user read and write there",
    errno.EPERM: "let this user read and write there",
    errno.EROFS: "choose a place that can be written to",
    errno.EIO: "have the disk looked after",
    errno.EMFILE: "allow more open files (`ulimit -n`)",
    errno.ENFILE: "close other programs",
    errno.ENAMETOOLONG: "choose a shorter name",
}
# of an MLflow that worked when the run began
MLFLOW_REMEDIES = {
    r"database is locked": "end what else uses the database",
    r"database or disk is full": "free space there",
    r"readonly database|disk I/O error|unable to open database": "let this user read and write there",
    r"API request to .* failed": "see to the server",
}


def sentence(error: BaseException) -> str | None:
    """What to tell the user of an error; None for one that only the project's authors can fix."""
    while isinstance(error, DatasetError) and error.__cause__:  # the catalog wraps what its entries raise
        error = error.__cause__
    if isinstance(error, UserError):
        command = f": `kedro run {error.remedy}`" if error.remedy else ""
        return f"{error}{command}"
    again = "and give the same command again; what was finished before is as it was"
    if isinstance(error, MlflowException):
        for found, remedy in MLFLOW_REMEDIES.items():
            if reason := re.search(found, str(error)):
                return f"MLflow cannot keep what this run tells it, found {reason[0]!r}: {remedy}, {again}"
    if (number := _errno(error)) in REMEDIES:
        place = getattr(error, "filename", None) or "a file of this run"
        return f"{place}: could not be used, found {os.strerror(number)!r}; {REMEDIES[number]}, {again}"
    return None


def in_environment(message: str, env: str | None) -> str:
    """The message, in which every `kedro run` that is advised is of the environment of the command it answers."""
    return message.replace("`kedro run", f"`kedro run --env {shlex.quote(env)}") if env else message


@contextmanager
def without_traceback() -> Iterator[None]:
    """End with the sentence alone where there is one."""
    try:
        yield
    except Exception as error:
        if said := sentence(error):
            raise click.ClickException(said) from error
        raise


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    in_words = re.search(r"\(os error (\d+)\)", str(error))  # of packages written in Rust
    return int(in_words[1]) if in_words else None
