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


def test_what_is_missing_is_made_in_the_same_environment(project):
    said = project.fails("run", "--env", "nlm", "--pipeline", "validation")
    assert "run `kedro run --env nlm --pipeline data_processing` first" in said


def test_phantom_cells_are_advised_only_where_they_are_the_images_that_are_missing(project):
    said = project.fails("run", "--env", "digits")
    assert "raw_cells: nothing at" in said
    assert "draw the phantom cells" not in said
    (project.folder / "data/01_raw/phantom_cells.zip").unlink()
    assert "or draw the phantom cells with `kedro run --pipeline phantom`" in project.fails("run")
