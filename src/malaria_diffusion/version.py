"""Which code this is."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path


def code_version() -> str:
    """Commit of the project's checkout, "-dirty" if files differ from it; the package's version outside git."""
    try:
        _git("ls-files", "--error-unmatch", __file__)  # an environment may lie in the checkout of another project
        return _git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return metadata.version("malaria_diffusion")


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=here, check=True, capture_output=True, text=True).stdout.strip()
