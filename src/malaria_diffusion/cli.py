"""`kedro run` of this project: as Kedro's, but values after `--params` are taken as they were written.

And a pipeline, tag or node that there is none of is told in one sentence, where Kedro's comes after a traceback; and
what a message advises to run is of the same environment.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from malaria_diffusion.config import parse_parameters
from malaria_diffusion.sentences import in_environment


def split_params(context: click.Context, option: click.Parameter, value: Any) -> dict[str, Any]:
    """Parse what stands behind `--params`; a file given with `--config` may hold a dict."""
    if isinstance(value, dict):
        return value
    try:
        return parse_parameters(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from error


def refuse_unknown_names(asked: dict[str, Any]) -> None:
    """Find out before anything is loaded whether there is something to run, and in the way that is asked for.

    Args:
        asked: The options of `kedro run`.

    Raises:
        click.ClickException: there is not.
    """
    names = [asked["pipeline"]] if asked["pipeline"] else asked["pipelines"] or ["__default__"]
    if unknown := [name for name in names if name not in pipelines]:
        known = ", ".join(sorted(pipelines.keys() - {"__default__"}))
        raise click.ClickException(f"--pipeline: there is none called {unknown[0]!r}; there are {known}")
    chosen: Pipeline = sum((pipelines[name] for name in names), Pipeline([]))
    tags = {tag for node in chosen.nodes for tag in node.tags}
    if unknown := sorted(set(asked["tags"]) - tags):
        raise click.ClickException(f"--tags: no node has {unknown[0]!r}; known here are {', '.join(sorted(tags))}")
    filters = ("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "to_outputs")
    try:
        part = chosen.filter(**{name: asked[name] for name in filters}, node_namespaces=asked["namespaces"])
    except ValueError as error:
        said = " ".join(str(error).split()).partition(". Please ensure")[0].rstrip(".")
        hint = f"`kedro registry describe {names[0]}` lists its nodes"
        raise click.ClickException(f"nothing to run: {said}; {hint}") from error
    yielding = [node.name for node in part.nodes if inspect.isgeneratorfunction(node.func)]
    if yielding and (asked["is_async"] or asked["runner_params"].get("is_async")):
        raise click.ClickException(
            f"--async: {yielding[0]!r} may have nothing to save, which Kedro cannot have other threads do: leave it out"
        )


def _ours(option: click.Parameter) -> click.Parameter:
    if option.name == "params":
        option = copy.copy(option)
        option.callback = split_params
    return option


class _Run(click.Command):
    """Kedro's command, which starts only where there is something to run."""

    def invoke(self, context: click.Context) -> Any:
        refuse_unknown_names(context.params)
        try:
            return super().invoke(context)
        except click.ClickException as error:
            said = in_environment(error.message, context.params["env"])
            if said == error.message:
                raise
            raise click.ClickException(said) from error


# what Kedro looks for in this file: a group whose commands come before its own, and the command of the package
cli = click.Group()
run = _Run(
    kedro_run.name,
    callback=kedro_run.callback,
    params=[_ours(option) for option in kedro_run.params],
    help=kedro_run.help,
)
cli.add_command(run)
