"""From results and figures to HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from jinja2 import FileSystemLoader, PrefixLoader

from malaria_diffusion.cards import environment
from malaria_diffusion.questions import text
from malaria_diffusion.questions.question import Question
from malaria_diffusion.questions.results import Results, records
from malaria_diffusion.report.claims import paper_claims, paper_settings
from malaria_diffusion.report.contents import answered, definitions, figure_names, rules
from malaria_diffusion.report.scorecard import scorecard


def render_report(
    summary: dict[str, Any], results: Results, figures: Mapping[str, bytes], reference_sheet: bytes | None = None
) -> str:
    """Fill the template.

    Args:
        summary: See `summary_of`.
        results: What it sums up.
        figures: PNG files by name; one that is not there is left out.
        reference_sheet: A PNG file of cells of the reference model, models/nlm-64, shown beside phantom cells.

    Returns:
        HTML with the figures in it.
    """
    asked = answered(results)
    folders = PrefixLoader({section.name: FileSystemLoader(section.folder) for section in asked})
    templates = environment(folders)
    for function in (text.number, text.interval, text.signed, text.percent, text.p_value, text.p_short):
        templates.globals[function.__name__] = function
    context = {
        "summary": summary,
        "headlines": summary["headlines"],
        "images": summary["dataset"]["images"],
        "of_unseen": summary["dataset"]["unseen"],
        "phantom": results.phantom,
        "elsewhere": results.elsewhere,
        "claims": paper_claims(results, summary["headlines"]),
        "settings": paper_settings(summary),
        "scorecard": scorecard(results, summary["headlines"], summary),
        "rules": rules(),
        "definitions": definitions(),
        "figures": {name: base64.b64encode(image).decode() for name, image in figures.items()},
        "reference_sheet": base64.b64encode(reference_sheet).decode() if reference_sheet and results.phantom else None,
        "numbers": {name: number for number, name in enumerate(figure_names())},
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    filled = [
        templates.get_template(f"{section.name}/section.html").render(context | _own(section, results))
        for section in asked
    ]
    return templates.get_template("report.html").render(context, sections=list(zip(asked, filled, strict=True)))


def _own(section: Question, results: Results) -> dict[str, Any]:
    """What a section's template has besides what all have."""
    given = {name: results[name] for name in section.results}
    tables = {name: records(value) if isinstance(value, pd.DataFrame) else value for name, value in given.items()}
    return tables | section.context(results) | {"question": section}
