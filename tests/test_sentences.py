"""What a user or the keeper of a machine can mend ends in one sentence; what they cannot keeps its traceback."""

import errno

import pytest
from click import ClickException
from click.testing import CliRunner
from kedro.io import DatasetError
from mlflow.exceptions import MlflowException

from malaria_diffusion import cli
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.sentences import sentence, without_traceback


def wrapped(error):
    """As the catalog wraps what its entries raise, twice."""
    for _ in range(2):
        outer = DatasetError("Failed while saving data to dataset")
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize("wrap", [wrapped, lambda error: error])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("cells.zip: is empty"), ["cells.zip: is empty"]),
        (UserError("model: not there; train one", Remedy.TRAINING), ["train one: `kedro run --pipeline diffusion`"]),
        (OSError(errno.ENOSPC, "full", "a.npy"), ["a.npy", "No space left on device", "free space"]),
        (PermissionError(errno.EACCES, "no", "a.npy"), ["a.npy", "Permission denied", "let this user"]),
        (OSError(errno.EROFS, "no", "a.npy"), ["a.npy", "Read-only file system", "choose a place"]),
        (Exception("I/O error: No space left on device (os error 28)"), ["No space left", "free space"]),
        (MlflowException("(sqlite3.OperationalError) database is locked\n[SQL: x]"), ["MLflow", "database is locked"]),
    ],
)
def test_one_sentence_says_what_was_found_and_what_to_do(wrap, error, said):
    with pytest.raises(ClickException) as raised, without_traceback():
        raise wrap(error)
    for words in said:
        assert words in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), OSError("of no number"), wrapped(KeyError("x"))])
def test_faults_of_the_project_keep_their_traceback(error):
    assert sentence(error) is None
    with pytest.raises(type(error)), without_traceback():
        raise error


@pytest.mark.parametrize(
    ("given", "advised"), [((), ""), (("--env", "nlm"), "--env nlm "), (("-e", "a b"), "--env 'a b' ")]
)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("not there; train one", Remedy.TRAINING), "train one: `kedro run {}--pipeline diffusion`"),
        (
            UserError("run `kedro run --tags a`, or `kedro run --tags b`"),
            "`kedro run {0}--tags a`, or `kedro run {0}--tags b`",
        ),
    ],
)
def test_what_is_advised_to_run_is_of_the_environment_of_the_command(error, said, given, advised, monkeypatch):
    def run(**asked):
        with without_traceback():
            raise error

    monkeypatch.setattr(cli, "refuse_unknown_names", lambda asked: None)
    monkeypatch.setattr(cli.run, "callback", run)
    assert said.format(advised) in CliRunner().invoke(cli.run, given).output
