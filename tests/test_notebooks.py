"""Notebooks that need no finished study."""

import pytest

from .notebooks import outputs, pictures, run_notebook
from .projects import make_project

SMALL = {"channels=[32, 64, 64]": "channels=[8, 8, 8]", "quality_images=100": "quality_images=20"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


def test_the_ddpm_in_ten_cells(project):
    short = SMALL | {
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


def test_your_own_images(project):
    notebook = run_notebook(project.folder / "notebooks/your_own_images.ipynb", SMALL | {"EPOCHS = 12": "EPOCHS = 1"})
    assert pictures(notebook) == 3
    shown = str(outputs(notebook))
    assert "(1797, 3, 16, 16) uint8 grey" in shown
    assert "damaged.png" in shown and "not an image" in shown
    assert "0815" in shown
