"""A notebook in a kernel of its own; what notebooks show is asked where they run without one."""

import pytest

from ..notebooks import outputs, run_notebook
from ..projects import make_project

pytestmark = pytest.mark.integration


def test_a_kernel_runs_the_notebook_of_your_own_images(tmp_path):
    short = {"channels=[32, 64, 64]": "channels=[8, 8, 8]", "EPOCHS = 12": "EPOCHS = 1"}
    notebook = run_notebook(make_project(tmp_path).folder / "notebooks/your_own_images.ipynb", short, kernel=True)
    assert "(1797, 3, 16, 16) uint8 grey" in str(outputs(notebook))
