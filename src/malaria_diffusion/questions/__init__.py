"""What the validation asks of synthetic cells, one question a folder."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from malaria_diffusion.questions.question import Question


def questions() -> list[Question]:
    """The QUESTION of every folder here, in the order in which they are asked."""
    folders = [found.name for found in iter_modules(__path__) if found.ispkg]
    found = [import_module(f"{__name__}.{name}.question").QUESTION for name in folders]
    return sorted(found, key=lambda question: question.place)
