"""Cards in Hugging Face's format: facts for programs (a front matter in YAML) above a text for people."""

from __future__ import annotations

from typing import Any

from huggingface_hub import CardData
from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

# of the project and, with it, of its models; as Hugging Face names it
LICENSE = "agpl-3.0"
INTENDED = "To look at, to teach, to test software, and to study synthetic images."
OUT_OF_SCOPE = (
    "Not for diagnosis, not as evidence about patients, and not as a substitute for real cells in the validation of a "
    "diagnostic method."
)
CITATION = """\
@inproceedings{ho2020denoising,
  title = {Denoising Diffusion Probabilistic Models},
  author = {Ho, Jonathan and Jain, Ajay and Abbeel, Pieter},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {33},
  year = {2020}
}
@misc{iuliano_denoising,
  title = {Denoising Probabilistic Diffusion Models for Synthetic Healthcare Image Generation},
  author = {Iuliano, Antonella and Li{\\`o}, Pietro and Manfredi, Gilda and Romaniello, Federico}
}"""


def render(template: str, data: CardData, **facts: Any) -> str:
    """A card: `data` as its front matter above the filled `template`.

    Args:
        template: Name of a file in `templates`.
        data: What programs read.
        facts: What the template names; a name that is not given is an error.

    Returns:
        Markdown that `huggingface_hub.RepoCard` reads.
    """
    return f"---\n{data.to_yaml()}\n---\n\n{fill(template, **facts)}"


def fill(template: str, **facts: Any) -> str:
    """The text of a template alone, see `render`."""
    templates = environment(keep_trailing_newline=True)
    templates.filters["cell"] = _cell
    templates.globals |= {"citation": CITATION, "intended": INTENDED, "out_of_scope": OUT_OF_SCOPE}
    return templates.get_template(template).render(facts)


def environment(*others: BaseLoader, **options: Any) -> Environment:
    """The templates of the package and those of `others`; what HTML names is escaped, and must be given."""
    return Environment(
        loader=ChoiceLoader([*others, PackageLoader("malaria_diffusion", "templates")]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def settings(values: dict[str, Any]) -> str:
    """Parameters in one line: "timesteps 1000, schedule linear"."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _cell(text: Any) -> str:
    """As a table's cell may hold it; names of classes are anybody's."""
    return str(text).replace("|", "\\|").replace("\n", " ")
