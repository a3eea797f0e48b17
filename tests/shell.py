"""Run as a script: a notebook's cells one after the other, and what each has shown, without a kernel."""

import base64
import sys
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


class Shell(InteractiveShell):
    """Without windows: pictures are shown below their cells."""

    def enable_gui(self, gui=None):
        assert gui is None


def texts(data):
    """As a notebook holds them: of bytes the base64."""
    return {
        kind: base64.b64encode(value).decode() if isinstance(value, bytes) else value for kind, value in data.items()
    }


def run_cells(path: Path) -> None:
    """Run them and write what they show beside them."""
    notebook = nbformat.read(path, as_version=4)
    shell = Shell.instance()
    shell.enable_matplotlib("inline")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            with capture_output() as shown:
                done = shell.run_cell(cell.source)
            done.raise_error()
            cell.outputs = [nbformat.v4.new_output("display_data", texts(output.data)) for output in shown.outputs]
            cell.outputs.append(nbformat.v4.new_output("stream", text=shown.stdout))
    nbformat.write(notebook, path)


if __name__ == "__main__":
    run_cells(Path(sys.argv[1]))
