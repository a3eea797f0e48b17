"""The documentation as a site: it builds without a warning, is complete, and loads nothing from elsewhere."""

import re
import subprocess

import pytest

from .projects import ROOT, SCRIPTS

pytestmark = pytest.mark.docs


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """HTML by the path in the site."""
    site = tmp_path_factory.mktemp("site")
    command = [SCRIPTS / "mkdocs", "build", "--strict", "--site-dir", site]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {str(page.relative_to(site)): page.read_text() for page in site.rglob("*.html")}


def test_every_page_of_the_documentation_is_in_the_menu(pages):
    menu = set(re.findall(r'href="([\w./]+\.html)"', pages["index.html"]))
    assert menu == pages.keys() - {"404.html"}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {page.removesuffix(".html") for page in menu}


@pytest.mark.parametrize(
    "package",
    ["cells", "classifier", "compute", "diffusion", "figures", "questions", "report", "statistics", "studies", "study"],
)
def test_every_module_of_the_library_is_in_the_reference(pages, package):
    reference = pages[f"reference/{package}.html"]
    for file in (ROOT / "src/malaria_diffusion" / package).rglob("[!_]*.py"):
        module = file.relative_to(ROOT / "src").with_suffix("")
        assert f'id="{".".join(module.parts)}"' in reference


def test_formulas_are_typeset(pages):
    assert pages["method.html"].count("<math") > 20
    assert not any("arithmatex" in page for page in pages.values())


def test_a_page_loads_nothing_from_elsewhere(pages):
    for name, page in pages.items():
        assert not re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="?(?:https?:)?//', page), name
