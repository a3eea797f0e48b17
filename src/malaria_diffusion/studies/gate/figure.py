"""The gate as a table: a rule a line, a model a column, and the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.figures.style import new_figure
from malaria_diffusion.studies.gate.judge import shown

PASSED, FAILED = "#c7e9c0", "#fcbba1"
WORDS = {True: "passed", False: "refused"}


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """What a reader wants of `judge.gate_table`: one row a rule, with texts.

    Returns:
        Columns rule, wanted (of what number; of each model, where they differ), a column for each model (what was
        found, and whether that is kept), and where several seeds of the same settings are there, seeds (mean and sd,
        by settings).
    """
    rows = []
    for rule, part in table.groupby("rule", sort=False):
        first = part.iloc[0]
        bounds = list(dict.fromkeys(shown(wanted) for wanted in part["wanted"] if wanted == wanted))
        row = {"rule": rule, "wanted": f"{first['judged']} {first['sign']} {' / '.join(bounds) or shown(math.nan)}"}
        row |= {one["model"]: _cell(one) for one in part.to_dict("records")}
        groups = part[part["seeds"] >= 2].drop_duplicates("settings")
        if (table["seeds"] >= 2).any():
            row["seeds"] = ", ".join(
                f"{shown(one['mean'])} (sd {shown(one['sd'])}, {one['seeds']} seeds)"
                for one in groups.to_dict("records")
            )
        rows.append(row)
    return pd.DataFrame(rows)


def gate_figure(table: pd.DataFrame) -> Figure:
    """Draw `side_by_side`, what is kept green, what is not red.

    Args:
        table: See `judge.gate_table`.
    """
    text = side_by_side(table)
    passed = table.pivot(index="rule", columns="model", values="passed").loc[text["rule"]].astype(bool)
    figure = new_figure(2.0 + 1.6 * len(text.columns), 0.9 + 0.28 * (len(text) + 1))
    axes = figure.subplots()
    axes.set_axis_off()
    drawn = axes.table(text.to_numpy().tolist(), colLabels=list(text.columns), loc="center", cellLoc="left")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    drawn.auto_set_column_width(list(range(len(text.columns))))
    drawn.scale(1, 1.3)
    for column, name in enumerate(text.columns):
        drawn[0, column].set_text_props(weight="bold")
        for row in range(len(text)):
            if name in passed:
                drawn[row + 1, column].set_facecolor(PASSED if passed[name].iloc[row] else FAILED)
    refused = int((~passed.all()).sum())
    verdict = WORDS[refused == 0] if passed.shape[1] == 1 else f"{refused} of {passed.shape[1]} refused"
    axes.set_title(f"The gate: {verdict}", fontsize=10)
    return figure


def _cell(row: Mapping[Hashable, Any]) -> str:
    found = "not judged" if row["reason"] else shown(row["found"])
    return f"{found}: {WORDS[bool(row['passed'])]}"
