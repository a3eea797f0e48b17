"""Notebooks, run as a user would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .processes import run_forked

if TYPE_CHECKING:
    import nbformat


def run_notebook(path: Path, changes: dict[str, str] | None = None, kernel: bool = False) -> nbformat.NotebookNode:
    """Run the notebook where it lies, after replacing texts of it, each of which must be there.

    In a forked process, which has imported much already, or in a kernel of its own, as Jupyter does.
    """
    import nbformat  # here, as every worker imports every test, and this takes a second

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # committed clean
    for old, new in (changes or {}).items():
        assert any(old in cell.source for cell in notebook.cells), old
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)
    if kernel:
        from nbclient import NotebookClient

        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
        return notebook
    copy = path.with_stem(f"{path.stem}_run")
    nbformat.write(notebook, copy)
    done = run_forked(Path(__file__).with_name("shell.py"), str(copy), folder=path.parent, variables=os.environ)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return nbformat.read(copy, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Everything that the cells have shown."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook: nbformat.NotebookNode) -> int:
    """Number of pictures shown."""
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))
