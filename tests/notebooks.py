"""Notebooks, run as a user would."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from .processes import Forked

if TYPE_CHECKING:
    import nbformat


class ForkedKernel(Forked):
    """A kernel that need not import anew what takes long, as Jupyter uses a process."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], env: Mapping[str, str], cwd: str, **others: Any) -> None:
        import ipykernel_launcher

        variables = {name: value for name, value in env.items() if name != "JPY_PARENT_PID"}  # it has another parent
        printed = Path(os.devnull), Path(os.devnull)
        super().__init__(
            Path(ipykernel_launcher.__file__),
            *command[command.index("ipykernel_launcher") + 1 :],
            folder=Path(cwd),
            variables=variables,
            printed=printed,
            session=True,
        )
        self.terminate = self.kill


def run_notebook(path: Path, changes: dict[str, str] | None = None, forked: bool = False) -> nbformat.NotebookNode:
    """Run the notebook where it lies, after replacing texts of it, each of which must be there.

    A `forked` kernel starts quickly, and would not notice that an import is missing.
    """
    import nbformat  # here, as every worker imports every test, and this takes a second
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # committed clean
    for old, new in (changes or {}).items():
        assert any(old in cell.source for cell in notebook.cells), old
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)
    start = "jupyter_client.provisioning.local_provisioner.launch_kernel"
    with patch(start, ForkedKernel) if forked else nullcontext():
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Everything that the cells have shown."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook: nbformat.NotebookNode) -> int:
    """Number of pictures shown."""
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))
