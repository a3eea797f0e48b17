"""Node of the phantom pipeline."""

from pathlib import Path

from malaria_diffusion.cells.phantom.draw import PhantomParameters, write_phantom_archive


def draw_phantom_cells(parameters: PhantomParameters, workspace: Path) -> Path:
    """Draw the archive; the same parameters give the same file."""
    return write_phantom_archive(parameters, workspace / "phantom_cells.zip")
