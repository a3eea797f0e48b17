"""CONTRIBUTING.md names what is there."""

import re

from .projects import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PLACES = [ROOT, ROOT / "src/malaria_diffusion"]
MADE = {".venv", "site/"}  # by commands


def test_every_path_exists():
    paths = set(re.findall(r"`([\w./-]+)`", TEXT)) | set(re.findall(r"\]\(([\w./-]+)\)", TEXT))
    paths = {path for path in paths if "/" in path or "." in path} - MADE
    assert len(paths) > 20
    assert {path for path in paths if not any((place / path).exists() for place in PLACES)} == set()


def test_the_commands_are_those_of_the_makefile():
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^\| `make ([\w-]+)`", TEXT, re.MULTILINE) == targets.split()
