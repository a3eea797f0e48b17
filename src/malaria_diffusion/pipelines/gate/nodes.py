"""Nodes of the gate."""

import logging
from typing import Any

import click
import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.errors import UserError
from malaria_diffusion.observer import observer
from malaria_diffusion.studies.gate.config import GateParameters
from malaria_diffusion.studies.gate.figure import gate_figure, side_by_side
from malaria_diffusion.studies.gate.judge import gate_table, refuse
from malaria_diffusion.studies.gate.summaries import read_summaries

logger = logging.getLogger(__name__)

THIS_RUN = "this run"


def judge_models(summary: dict[str, Any] | None, gate: GateParameters) -> tuple[pd.DataFrame, Figure]:
    """Hold what the validation found against the rules, of this run or of several side by side."""
    if gate.summaries is not None:
        summaries = read_summaries(gate.summaries)
    elif summary is not None:
        summaries = {THIS_RUN: summary}
    else:
        raise UserError(
            "there is no summary to judge: run `kedro run --pipeline validation` first, or name files in gate.summaries"
        )
    table = gate_table(summaries, gate.kept)
    click.echo(f"\n{side_by_side(table).to_string(index=False)}\n")
    for model, rows in table.groupby("model", sort=False):
        judged = {row["rule"]: {key: row[key] for key in ("found", "wanted")} for row in rows.to_dict("records")}
        passed = {"rules": len(rows), "passed": int(rows["passed"].sum())}
        observer().log_metrics({"gate" if model == THIS_RUN else f"gate {model}": judged | passed})
    observer().set_tags(gate="passed" if table["passed"].all() else "refused")
    return table, gate_figure(table)


def refuse_models(gate_table: pd.DataFrame) -> None:
    """End the run with what is broken, if anything is."""
    refuse(gate_table)
    logger.info("the gate is passed: %d rules, %d models", gate_table["rule"].nunique(), gate_table["model"].nunique())
