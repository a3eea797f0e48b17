"""The MLflow UI and Jupyter start and answer."""

import urllib.request

import pytest

from ..projects import make_project
from .servers import serving

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize(
    ("command", "path", "found"),
    [
        (["mlflow", "ui"], "/", "MLflow"),
        (["jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.token="], "/lab", "JupyterLab"),
    ],
    ids=["kedro mlflow ui", "kedro jupyter lab"],
)
def test_it_starts_and_answers(project, command, path, found):
    with serving(project, *command, path=path) as address, urllib.request.urlopen(address + path) as answer:
        assert found in answer.read().decode()


def test_the_registry_lists_the_pipelines(project):
    printed = project.succeeds("registry", "list")
    for name in ("data_processing", "diffusion", "validation", "ablation", "phantom", "__default__"):
        assert f"- {name}" in printed
