"""The wheel and the configuration of `kedro package` run in an empty folder, without the project."""

import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from malaria_diffusion import __version__

from ..projects import TINY, make_project

pytestmark = pytest.mark.integration

# `kedro package`, but that the build takes setuptools from here and not from a registry
PACKAGE = """
from kedro.framework.cli import cli, project
call = project.call
project.call = lambda command, **options: call([*command, *["--no-isolation"] * ("build" in command)], **options)
cli.main()
"""
FEW_CELLS = {"phantom": {"infected_people": 16, "healthy_people": 8, "cells_per_person": 10}}


def run(*command, folder, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTHONPATH"))}
    result = subprocess.run(
        command, cwd=folder, env=inherited | environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    return result.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """What `kedro package` leaves in dist/, of a project with one environment more and secrets in conf/local."""
    project = make_project(tmp_path_factory.mktemp("project"))
    (project.folder / "conf/tiny").mkdir()
    (project.folder / "conf/tiny/parameters.yml").write_text(yaml.safe_dump(TINY | FEW_CELLS))
    (project.folder / "conf/local/credentials.yml").write_text("secret: {}\n")
    run(sys.executable, "-c", PACKAGE, "package", folder=project.folder, PYTHONPATH=str(project.folder / "src"))
    return project.folder / "dist"


@pytest.fixture(scope="module")
def environment(package, tmp_path_factory):
    """A virtual environment with the wheel, inside the checkout of something else; dependencies are seen from here."""
    folder = tmp_path_factory.mktemp("elsewhere")
    run("git", "init", "--quiet", folder=folder)
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    run("git", *identity, "commit", "--quiet", "--allow-empty", "--message", "something else", folder=folder)
    run(sys.executable, "-m", "venv", "--without-pip", ".venv", folder=folder)
    python = folder / ".venv/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", folder=folder).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    (wheel,) = package.glob("*.whl")
    install = ["-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    run(sys.executable, *install, folder=folder)
    return python.parent


def test_the_configuration_leaves_out_what_is_local(package):
    with tarfile.open(package / "conf-malaria_diffusion.tar.gz") as archive:
        names = archive.getnames()
    assert "conf/base/catalog.yml" in names
    assert "conf/paper/globals.yml" in names
    assert not [name for name in names if name.startswith("conf/local/") and name.endswith(".yml")]


def test_the_wheel_says_that_it_has_types(environment):
    code = "from importlib.resources import files; print((files('malaria_diffusion') / 'py.typed').is_file())"
    assert run(environment / "python", "-c", code, folder=environment).strip() == "True"


def test_the_wheel_is_the_version_and_takes_no_other_checkout_for_its_own(environment, package):
    code = (
        "import malaria_diffusion; from malaria_diffusion.version import code_version;"
        "print(malaria_diffusion.__file__, malaria_diffusion.__version__, code_version())"
    )
    file, version, code_version = run(environment / "python", "-c", code, folder=environment).split()
    assert Path(file).is_relative_to(environment.parent)
    assert version == code_version == __version__
    assert [path.name for path in package.glob("*.whl")] == [f"malaria_diffusion-{__version__}-py3-none-any.whl"]


def test_the_study_runs_in_an_empty_folder(environment, package, tmp_path):
    command = [environment / "malaria_diffusion", "--conf-source", package / "conf-malaria_diffusion.tar.gz"]
    run(*command, "--env", "tiny", "--pipelines", "phantom", folder=tmp_path)
    run(*command, "--env", "tiny", folder=tmp_path)
    assert len(pd.read_parquet(tmp_path / "data/03_primary/cell_table.parquet")) == 240
    report = (tmp_path / "data/08_reporting/report.html").read_text()
    assert "</html>" in report
    assert (tmp_path / "mlflow.db").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {
        "data",
        "mlflow.db",
        "mlflow.db.lock",
        "mlruns",
        "mlartifacts",
        ".viz",
    }
