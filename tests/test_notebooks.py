"""Notebooks that need no finished study."""

import pytest

from .notebooks import outputs, pictures, run_notebook
from .projects import make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


def test_the_ddpm_in_ten_cells(project):
    short = {
        "EPOCHS = 4": "EPOCHS = 1",
        "middle, shares = 250": "middle, shares = 5",
        "evaluations=15": "evaluations=4",
    }
    notebook = run_notebook(project.folder / "notebooks/ddpm_in_ten_cells.ipynb", short)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) == 10
    assert pictures(notebook) >= 12
    said = "".join(output.get("text", "") for output in outputs(notebook))
    assert "noise from v: True" in said and "image from v: True" in said
    assert "largest difference of an image made alone, in grey levels: 0\n" in said
