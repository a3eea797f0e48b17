"""kedro viz, the MLflow UI and Jupyter start and answer."""

import contextlib
import os
import signal
import time
import urllib.error
import urllib.request

import pytest

from ..projects import make_project
from .servers import free_port

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("servers")]


LAYERS = '"layers":["raw","primary","diffusion model","synthetic cells","classifier","reporting"]'


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize(
    ("command", "path", "found"),
    [
        (["viz", "run", "--no-browser"], "/api/main", LAYERS),
        (["mlflow", "ui"], "/", "MLflow"),
        (["jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.token="], "/lab", "JupyterLab"),
    ],
    ids=["kedro viz", "kedro mlflow ui", "kedro jupyter lab"],
)
def test_it_starts_and_answers(project, command, path, found):
    port = free_port()
    process = project.start(*command, "--port", str(port))
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                    assert found in answer.read().decode()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, project.printed.read_text()[-3000:]
                assert time.monotonic() < deadline, "the server did not answer"
                time.sleep(0.3)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def test_the_registry_lists_the_pipelines(project):
    printed = project.succeeds("registry", "list")
    for name in ("data_processing", "diffusion", "validation", "ablation", "phantom", "__default__"):
        assert f"- {name}" in printed
