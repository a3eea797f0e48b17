"""Every ```bash block of the README and of docs/ runs, block after block, in a project with a finished tiny study.

What cannot be run here (a GPU, a download, a server that goes on until it is stopped) stands in ```sh blocks.
"""

import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from ..projects import ROOT, make_project

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docs")]

PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "```bash" in path.read_text()]
INSTALLS = "python3 -m venv"  # the README's first block, which got the tests to where they are


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("finished"))
    project.succeeds("run")
    return project


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_the_commands_of_a_page_run(finished, page, tmp_path):
    project = replace(finished, folder=tmp_path / "project")
    shutil.copytree(finished.folder, project.folder)
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if INSTALLS in block:
            continue
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=project.folder,
            env=project.environment | {"PWD": os.fspath(project.folder)},
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert result.returncode == 0, block + result.stdout[-3000:] + result.stderr[-3000:]


def test_every_block_says_whether_it_is_run():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        kinds = re.findall(r"^```(\w*)\n.*?^```", page.read_text(), re.DOTALL | re.MULTILINE)
        assert set(kinds) <= {"bash", "sh", "python", "yaml", "mermaid", "text"}, (page.name, kinds)
