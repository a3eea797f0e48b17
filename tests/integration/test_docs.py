"""Every ```bash and ```python block of the README, CONTRIBUTING and docs/ runs, one after another, beside a tiny study.

What cannot be run there (a GPU, a download, a server that goes on until it is stopped, an installation) stands in ```sh
and ```py blocks; most of these have tests of their own.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from ..projects import ROOT, make_project

pytestmark = pytest.mark.integration

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
INSTALLS = "python3 -m venv"  # the README's first block, which got the tests to where they are


def blocks(page):
    found = BLOCK.findall(page.read_text())
    commands, python = [], ""
    for kind, code in found:
        if kind == "python":
            python = code if "import " in code else python + code  # one that imports nothing goes on
            commands.append((kind, python))
        elif kind in RUN and INSTALLS not in code:
            commands.append((kind, code))
    return commands


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("finished"))
    shutil.copytree(ROOT / "models", project.folder / "models")
    project.succeeds("run")
    return project


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(finished, page, tmp_path):
    project = replace(finished, folder=tmp_path / "project")
    shutil.copytree(finished.folder, project.folder)
    for kind, code in blocks(page):
        result = subprocess.run(
            [*RUN[kind], code],
            cwd=project.folder,
            env=project.environment,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert result.returncode == 0, code + result.stdout[-3000:] + result.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_whether_it_is_run(page):
    assert {kind for kind, _ in BLOCK.findall(page.read_text())} <= {*RUN, "sh", "py", "text", "yaml", "mermaid"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target
