"""Lint, format, types and the import contract are part of the tests."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"]],
    ids=["ruff check", "ruff format", "types", "import contract"],
)
def test_style(command):
    result = subprocess.run([SCRIPTS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_listing_pipelines_imports_no_torch_and_warns_of_nothing():
    script = (
        "import sys; sys.argv = ['kedro', 'registry', 'list']\n"
        "from kedro.framework.cli.cli import main\n"
        "try: main()\n"
        "finally: sys.exit(', '.join({'torch', 'ultralytics', 'diffusers', 'shap'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr.strip() == ""
    assert all(line.startswith("- ") for line in result.stdout.split("\n") if line), result.stdout
