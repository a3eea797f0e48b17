"""What is published beside the code is all there, and says the code's version."""

import re
import subprocess
import tomllib

import pytest
import yaml

from malaria_diffusion import __version__

from .projects import ROOT


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert {author["family-names"] for author in citation["references"][0]["authors"]} >= {"Iuliano", "Manfredi"}


@pytest.mark.parametrize(
    ("file", "said"),
    [("CHANGELOG.md", r"^## (?:\[Unreleased\]: )?([\d.]+)"), ("docs/package.md", r"malaria_diffusion-([\d.]+)-py3")],
)
def test_the_first_version_named_is_this_one(file, said):
    assert re.search(said, (ROOT / file).read_text(), re.MULTILINE).group(1) == __version__


def test_what_lies_beside_the_code_is_shipped():
    package = ROOT / "src/malaria_diffusion"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {path for pattern in settings["package-data"]["malaria_diffusion"] for path in package.glob(pattern)}
    beside = {path for path in package.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert package / "py.typed" in beside  # or the types are nothing to whoever imports the package
    assert shipped == beside


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_git_changes_no_file_of_a_model_on_checkout():
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "models").rglob("*") if path.is_file()]
    command = ["git", "check-attr", "text", "--", *files]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [f"{file}: text: unset" for file in files]
