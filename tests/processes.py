"""Scripts in processes of their own, as a user starts them, without seven seconds of imports each."""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

from .forked import run

ROOT = Path(__file__).parents[1]

# What takes long to import; the project's own package is not among it, as each copy of the project has its own.
IMPORTED = [
    "alembic.command",
    "accelerate",
    "diffusers.models.unets.unet_2d",
    "diffusers.schedulers.scheduling_dpmsolver_multistep",
    "diffusers.schedulers.scheduling_unipc_multistep",
    "git",
    "IPython",
    "kedro.framework.cli.cli",
    "kedro.framework.session",
    "kedro_datasets.json",
    "kedro_datasets.matplotlib",
    "kedro_datasets.pandas",
    "kedro_datasets.text",
    "kedro_mlflow.framework.hooks",
    "kedro_viz.integrations.kedro.hooks",
    "kedro_viz.launchers.cli.main",
    "kedro_viz.launchers.jupyter",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "shap",
    "sklearn.linear_model",
    "torchmetrics.image",
    "torchvision",
    "tests.warmed",
]
# Read while importing: lines are not broken, and shap does not compile for seconds what a few cells never win back.
QUICK = {"COLUMNS": "200", "NUMBA_DISABLE_JIT": "1"}
TIMEOUT = 900
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(IMPORTED)


class Forked:
    """A Python script in a process forked from one that has imported `IMPORTED`; used as a `subprocess.Popen` is.

    What it prints goes to two files, or to one if both are the same. With `session` it leads a process group.
    """

    def __init__(
        self,
        script: Path,
        *arguments: str,
        folder: Path,
        variables: Mapping[str, str],
        printed: tuple[Path, Path],
        session: bool = False,
    ) -> None:
        given = {
            "script": str(script),
            "arguments": arguments,
            "folder": str(folder),
            "variables": dict(variables),
            "printed": tuple(map(str, printed)),
            "session": session,
        }
        # where it finds `tests`: Python 3.11 goes by the variable, later ones by the list
        path = [str(ROOT), *sys.path]
        with patch.dict(os.environ, QUICK | {"PYTHONPATH": os.pathsep.join(path)}), patch.object(sys, "path", path):
            forkserver.ensure_running()
        self._process = _processes.Process(target=run, kwargs=given)
        self._process.start()
        self.pid = self._process.pid
        self.kill = self._process.kill

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float = TIMEOUT) -> int:
        """The exit code, once it has ended; it is killed if it has not in time."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise subprocess.TimeoutExpired(["forked"], timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it to the process, not to its group."""
        os.kill(self.pid, number)


def told_by_a_launcher() -> list[dict[str, str]]:
    """What `accelerate launch` tells each of two processes, which meet at a free port."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(probe.getsockname()[1])}
    return [meeting | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def run_forked(
    script: Path, *arguments: str, folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a Python script and wait for it, in a process forked from one that has imported `IMPORTED`."""
    with tempfile.TemporaryDirectory() as name:
        printed = Path(name) / "stdout", Path(name) / "stderr"
        code = Forked(script, *arguments, folder=folder, variables=variables, printed=printed).wait()
        texts = [file.read_text(errors="replace") for file in printed]
    return subprocess.CompletedProcess([script, *arguments], code, *texts)
