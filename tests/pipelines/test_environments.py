"""Every environment that comes with the repository is understood, and stops only for want of its images."""

import pytest

from ..projects import ROOT, make_project

ENVIRONMENTS = sorted(folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"), parameters={})


@pytest.mark.parametrize("env", sorted({*ENVIRONMENTS} - {"base", "local"}))
def test_an_environment_is_valid(project, env):
    said = project.fails("run", "--env", env, "--params", "raw_cells=nowhere.zip")
    assert "raw_cells: nothing at" in said
    assert "nowhere.zip" in said
