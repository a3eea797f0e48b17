"""pyproject.toml declares what the code imports and requirements.txt pins; the library needs nothing of the study."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .projects import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCE = ROOT / "src"


def named(lines):
    """Requirements by the name of what they require."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


CORE = named(PYPROJECT["project"]["dependencies"])
STUDY = named(PYPROJECT["project"]["optional-dependencies"]["study"])
CONTRACT = next(
    contract for contract in PYPROJECT["tool"]["importlinter"]["contracts"] if contract["type"] == "forbidden"
)
LIBRARY = CONTRACT["source_modules"]


def imported_by(files):
    """What is imported from elsewhere: by name of the module, a file that does."""
    found = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= dict.fromkeys([module.partition(".")[0] for module in modules], file)
    return {name: file for name, file in found.items() if name not in {*sys.stdlib_module_names, SOURCE.name}}


def files_of(modules):
    places = [SOURCE.joinpath(*module.split(".")) for module in modules]
    return [file for place in places for file in [*place.rglob("*.py"), place.with_suffix(".py")] if file.is_file()]


@pytest.mark.parametrize(
    ("files", "declared"),
    [(files_of(LIBRARY), CORE), (files_of(["malaria_diffusion"]), CORE | STUDY)],
    ids=["library", "everything"],
)
def test_whatever_is_imported_is_declared(files, declared):
    assert len(files) > 50
    provided = packages_distributions()
    for name, file in imported_by(files).items():
        if name != "malaria_diffusion":
            assert {canonicalize_name(package) for package in provided[name]} & declared.keys(), (name, file)


def test_whatever_is_declared_is_pinned_within_its_range_and_nothing_else():
    pins = named((ROOT / "requirements.txt").read_text().split())
    assert pins.keys() == (CORE | STUDY).keys()
    for name, requirement in (CORE | STUDY).items():
        (pin,) = pins[name].specifier
        assert pin.operator == "==" and pin.version in requirement.specifier, (str(pins[name]), str(requirement))
        assert requirement.extras == pins[name].extras
        assert {part.operator for part in requirement.specifier} == {">="}, str(requirement)


SCRIPT = """
import importlib, sys
from importlib.machinery import PathFinder

class Hides(PathFinder):  # as if they were not installed, also to packages that only ask whether they are
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hides
for name in {modules}:
    importlib.import_module(name)
{example}
assert cells.pixels.shape == (4, 3, 64, 64) and cells.pixels.dtype.name == "uint8"
assert cells.labels.tolist() == ["Parasitized"] * 2 + ["Uninfected"] * 2
"""


def test_the_library_samples_without_the_packages_of_the_study(tmp_path):
    """The modules of all its layers, and the example of docs/package.md."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/package.md").read_text(), re.DOTALL)
    modules = [str(file.relative_to(SOURCE).with_suffix("")).replace("/", ".") for file in files_of(LIBRARY)]
    hidden = {*CONTRACT["forbidden_modules"], "kedro_viz", "jupyterlab", "ipywidgets", "omegaconf", "sqlalchemy"}
    script = SCRIPT.format(hidden=hidden, modules=modules, example=example)
    shutil.copytree(ROOT / "models", tmp_path / "models")
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "HOME": str(tmp_path), "YOLO_OFFLINE": "true"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
