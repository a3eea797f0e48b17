"""`kedro run` of this project: as Kedro's, but values after `--params` are taken as they were written."""

from __future__ import annotations

import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from malaria_diffusion.config import parse_parameters


def split_params(context: click.Context, option: click.Parameter, value: Any) -> dict[str, Any]:
    """Parse what stands behind `--params`; a file given with `--config` may hold a dict."""
    if isinstance(value, dict):
        return value
    try:
        return parse_parameters(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from error


def _ours(option: click.Parameter) -> click.Parameter:
    if option.name == "params":
        option = copy.copy(option)
        option.callback = split_params
    return option


# what Kedro looks for in this file: a group whose commands come before its own, and the command of the package
cli = click.Group()
run = copy.copy(kedro_run)
run.params = [_ours(option) for option in kedro_run.params]
cli.add_command(run)
