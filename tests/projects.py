"""A copy of the project with a few phantom cells and everything tiny, driven from outside as a user would."""

import compileall
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from malaria_diffusion.cells.phantom.draw import PhantomParameters, write_phantom_archive

from .processes import QUICK, TIMEOUT, Forked, run_forked

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent

# of the graph in kedro viz, in the order of the study
LAYERS = ["inputs", "cells", "diffusion model", "synthetic cells", "classifier", "results", "figures", "report"]

TINY = {
    "data_processing": {"packing": {"size": 16}, "split": {"val_fraction": 0.25, "test_fraction": 0.25}},
    "diffusion": {
        "process": {"timesteps": 10},
        "network": {"channels": [8, 16], "norm_groups": 4},
        "training": {
            "epochs": 2,
            "decay_epochs": None,
            "warmup_steps": 0,
            "precision": "float32",
            "quality_epochs": 1,
            "quality_images": 8,
        },
        "sampling": {"count": 20, "evaluations": 4, "precision": "float32"},
        "bound": {"images": 4, "steps": 3},
    },
    "generative": {
        "cells": 40,
        "validation_cells": 40,
        "draws": 1,
        "looks": 3,
        "maps": 2,
        "anomalies": {"cells": 20},
        "shift": {"cells": 20, "hues": [0.1], "saturations": [0.5], "blurs": [40]},
        "low_data": {"shares": [0.5], "images": 32, "steps": 4},
        "precision": "float32",
    },
    "guidance": {"scales": [1.0, 3.0], "images": 20},
    "validation": {
        "classifier": {"epochs": 2, "warmup_epochs": 0},
        "comparison": {"n": 40, "resamples": 100, "permutations": 200},
        "folds": {"number": 2},
        "explanations": {"cells": 2, "evaluations": 20},
        "utility": {"shares": [0.5, 1.0], "steps": 4, "ddpm_images": 32},
    },
}


@dataclass(frozen=True)
class Project:
    """A project folder and the commands in it."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)  # of the environment, besides

    @property
    def environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
        path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
        return environment | {"PATH": path} | QUICK | self.variables

    def kedro(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a kedro command and wait for it."""
        return run_forked(SCRIPTS / "kedro", *arguments, folder=self.folder, variables=self.environment)

    def cold(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a kedro command in a new process, as a user does, and wait for it."""
        return subprocess.run(
            [SCRIPTS / "kedro", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def succeeds(self, *arguments: str) -> str:
        """Run a kedro command that must succeed; return what it printed."""
        result = self.kedro(*arguments)
        assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
        return result.stdout + result.stderr

    def fails(self, *arguments: str) -> str:
        """Run a kedro command that must fail; return what it printed."""
        result = self.kedro(*arguments)
        assert result.returncode != 0, result.stdout[-5000:]
        return " ".join((result.stdout + result.stderr).split())

    def start(self, *arguments: str) -> Forked:
        """Start a kedro command in a process group of its own; what it prints goes to `self.printed`."""
        self.printed.write_text("")
        return Forked(
            SCRIPTS / "kedro",
            *arguments,
            folder=self.folder,
            variables=self.environment,
            printed=(self.printed, self.printed),
            session=True,
        )

    @property
    def printed(self) -> Path:
        return self.folder / "data" / "printed.txt"


@functools.cache
def _clone() -> tempfile.TemporaryDirectory[str]:
    """What a clone has, compiled, but for the data, which are drawn anew and few; made once a test process."""
    clone = tempfile.TemporaryDirectory(prefix="clone-")
    folder = Path(clone.name)
    for name in ("pyproject.toml", "requirements.txt", "README.md", ".telemetry"):
        shutil.copy(ROOT / name, folder)
    for name in ("conf", "notebooks", "src"):
        shutil.copytree(ROOT / name, folder / name)
    compileall.compile_dir(folder / "src", quiet=2)
    people = PhantomParameters(infected_people=16, healthy_people=8, cells_per_person=10)
    write_phantom_archive(people, folder / "data/01_raw/phantom_cells.zip")
    return clone


@functools.cache
def _processed() -> tempfile.TemporaryDirectory[str]:
    """A project of which `data_processing` has run; made once a test process."""
    folder = tempfile.TemporaryDirectory(prefix="processed-")
    make_project(Path(folder.name)).succeeds("run", "--pipeline", "data_processing")
    return folder


def make_project(folder: Path, parameters: dict = TINY) -> Project:
    """Copy what a clone has, with phantom cells of few people."""
    return _copy(_clone(), folder, parameters)


def make_processed_project(folder: Path, parameters: dict = TINY) -> Project:
    """The same after `kedro run --pipeline data_processing`, of which `parameters` change nothing."""
    assert parameters["data_processing"] == TINY["data_processing"]
    return _copy(_processed(), folder, parameters)


def _copy(made: tempfile.TemporaryDirectory[str], folder: Path, parameters: dict) -> Project:
    shutil.copytree(made.name, folder, dirs_exist_ok=True)
    (folder / "conf/local").mkdir(exist_ok=True)
    (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(parameters))
    return Project(folder)
