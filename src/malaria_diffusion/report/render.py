"""From results and figures to HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from malaria_diffusion.questions.explanations.measure import MASKER
from malaria_diffusion.report import text
from malaria_diffusion.report.claims import RULES, paper_claims, paper_settings, worse_than_floor
from malaria_diffusion.report.definitions import DEFINITIONS
from malaria_diffusion.report.results import Results, records

# 0 to 8 have their number in their name; the others are numbered on, in the order in which they are shown
FIGURES = (
    "figure_0_dataset",
    "figure_1_process",
    "figure_2_synthetic",
    "figure_3_classified",
    "figure_4_confusion",
    "figure_5_classifier_loss",
    "figure_6_distributions",
    "figure_7_training_loss",
    "figure_8_bound",
    "figure_reliability",
    "figure_mistakes",
    "figure_descriptors",
    "figure_associations",
    "figure_acquisition",
    "figure_fidelity",
    "figure_nearest",
    "figure_closest_pairs",
    "figure_membership",
    "figure_utility",
    "figure_explanations",
)
WORST_PEOPLE = 5
REJECTED_SHOWN = 20


def render_report(summary: dict[str, Any], results: Results, figures: Mapping[str, bytes]) -> str:
    """Fill the template.

    Args:
        summary: See the node `summarise_study`.
        results: What it sums up.
        figures: PNG files by name; all of `FIGURES`.

    Returns:
        HTML with the figures in it.
    """
    environment = Environment(
        loader=PackageLoader("malaria_diffusion", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (text.number, text.interval, text.signed, text.percent, text.p_value, text.p_short):
        environment.globals[function.__name__] = function
    people = results.unseen_people[results.unseen_people["of"] == "person"]
    return environment.get_template("report.html").render(
        summary=summary,
        headlines=summary["headlines"],
        images=summary["dataset"]["images"],
        of_unseen=summary["dataset"]["unseen"],
        phantom=results.phantom,
        elsewhere=results.elsewhere,
        claims=paper_claims(results, summary),
        settings=paper_settings(summary),
        rules=RULES,
        definitions=dict(sorted(DEFINITIONS.items(), key=lambda item: item[1].name.lower())),
        classified=results.classification_metrics,
        audit=results.privacy_audit,
        bound=results.variational_bound,
        people=len(people),
        worst=records(people.head(WORST_PEOPLE)),
        rejected=records(results.rejected_cells.head(REJECTED_SHOWN)),
        protocols=_by_protocol(results.protocols),
        steps=None if results.steps is None else records(results.steps),
        worse=worse_than_floor(results.fidelity_metrics),
        masker=MASKER,
        figures={name: base64.b64encode(figures[name]).decode() for name in FIGURES},
        numbers={name: number for number, name in enumerate(FIGURES)},
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **{
            name: records(table)
            for name, table in results._asdict().items()
            if isinstance(table, pd.DataFrame)
            and name not in ("rejected_cells", "unseen_people", "protocol_metrics", "ablation_claims")
        },
    )


def _by_protocol(table: pd.DataFrame | None) -> list[dict[str, Any]] | None:
    """One row a protocol and threshold, its metrics in a dict."""
    if table is None:
        return None
    return [
        {
            "protocol": protocol,
            "threshold": threshold,
            "cells": int(part["cells"].iloc[0]),
            "people": int(part["people"].iloc[0]),
            "metrics": {row["metric"]: row for row in records(part)},
        }
        for (protocol, threshold), part in table.groupby(["protocol", "threshold"], sort=False)
    ]
