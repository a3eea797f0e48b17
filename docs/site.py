"""What the site has besides the pages of docs/: those of the root, a reference of the library, and typeset formulas."""

import re
from html import unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
LIBRARY = (
    "cells",
    "classifier",
    "compute",
    "diffusion",
    "figures",
    "questions",
    "report",
    "statistics",
    "studies",
    "study",
)
LINK = re.compile(r"\[([^\]]*)\]\(([\w./-]+)(#[^)]*)?\)")
FORMULA = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages of the root, and one for every package of the library."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for package in LIBRARY:
        files.append(File.generated(config, f"reference/{package}.md", content=f"::: malaria_diffusion.{package}"))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where their targets are on the site; of files that are not there, the text stays."""

    def on_site(link: re.Match[str]) -> str:
        text, target, part = link.groups(default="")
        place = PAGES.get(Path(target).name, target.removeprefix("docs/"))
        is_code = not files.get_file_from_path(place) and any((ROOT / at / target).exists() for at in (".", "docs"))
        return text if is_code else f"[{text}]({place}{part})"

    return LINK.sub(on_site, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML, which browsers show without a script."""
    return FORMULA.sub(lambda formula: convert(unescape(formula[1])), html)
