"""What is published beside the code says the code's version."""

import re

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
