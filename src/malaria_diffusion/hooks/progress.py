"""What a run tells its user: which step it is at, and at the end what was made and how to go on."""

from __future__ import annotations

import inspect
import logging
import os
import re
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import mlflow
import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import configure_logging
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.config.kedro_mlflow_config import UiOptions
from mlflow.entities import Run

from malaria_diffusion.cells.summary import counted
from malaria_diffusion.questions.text import interval, number

logger = logging.getLogger(__name__)

NAMED = 4  # of a folder that got more files than this, their number is shown
TIMED = 0.02  # of a run: steps that took less are shown together
# what to type next, by the last of these that a run has made
NEXT = {
    "phantom_cells": "run",
    "cells": "run --pipeline diffusion",
    "synthetic_cells": "run --pipeline validation",
    "summary": "run --pipeline folds",
    "reader_sheet": "run --pipeline reader_study --tags score",
}


class ProgressHooks:
    """Announces every step by its function's docstring, and closes a run with what a user wants to know then."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Take the project's logging.yml, too, where Kedro looked for it in another folder; note MLflow's address."""
        file = Path(context.config_loader.conf_source) / "logging.yml"
        if "KEDRO_LOGGING_CONFIG" not in os.environ and Path.cwd() != context.project_path and file.is_file():
            configure_logging(yaml.safe_load(file.read_text(encoding="utf-8")))
        ui = UiOptions(**context.config_loader["mlflow"].get("ui", {}))
        self._ui = f"http://{ui.host}:{ui.port}"

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Start counting."""
        self._steps, self._done, self._start = len(pipeline.nodes), 0, time.monotonic()
        self._begun: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._made: set[str] = set()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Say which step comes, and what it does."""
        self._done += 1
        self._begun[node.name] = time.monotonic()
        # the steps' brackets are not rich's markup
        logger.info("[%d/%d] %s", self._done, self._steps, described(node), extra={"markup": False})

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Note how long it took."""
        self._seconds[node.name] = time.monotonic() - self._begun[node.name]

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Note that this run has made it."""
        self._made.add(dataset_name)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Say what was made, where the time went, the headline numbers, and how to go on."""
        seconds = time.monotonic() - self._start
        lines = closing_lines(self._made, catalog, run_params, seconds, self._seconds, self._ui)
        click.echo("\n" + "\n".join(lines))


def described(node: Node) -> str:
    """The node's name, and the first sentence of its function's docstring."""
    first = (inspect.getdoc(node.func) or "").partition("\n\n")[0].partition("\n")[0]
    return f"{node.name}: {first}" if first else node.name


def closing_lines(
    made: set[str],
    catalog: DataCatalog,
    run_params: dict[str, Any],
    seconds: float,
    steps_seconds: dict[str, float],
    ui: str,
) -> list[str]:
    """What a finished run has made, the time of its steps, its headline numbers if any, and commands to go on with.

    `ui` is where `kedro mlflow ui` serves what is kept in files.
    """
    lines = [f"Done in {_duration(seconds)}."]
    lines += [f"  made     {line}" for line in _made(made, catalog) or ["nothing"]]
    if "cells" in made:
        packed: Any = catalog["cells"]
        lines.append(f"  classes  {counted(packed.facts()['cells_by_class'])}")
    lines += [f"  time     {line}" for line in _times(steps_seconds, seconds)]
    if "summary" in made:
        lines += ["", *_numbers(catalog.load("summary")["headlines"])]
    env = f" --env {run_params['env']}" if run_params.get("env") else ""
    lines.append("")
    if "report" in made:
        lines.append(f"  report   {_places(catalog, 'report')[0]}   (open it in a browser)")
    lines.append(f"  runs     kedro mlflow ui{env}")
    if run := mlflow.last_active_run():
        lines.append(f"  this run {_address(run, ui)}   ({run.info.run_name})")
    lines.append(f"  graph    kedro viz run{env}")
    steps = [command for name, command in NEXT.items() if name in made]
    if steps:
        lines.append(f"  next     kedro {steps[-1]}{env}")
    return lines


def _made(names: set[str], catalog: DataCatalog) -> list[str]:
    """The files that were written, folder by folder."""
    written = {place for name in names for place in _places(catalog, name)}
    paths = sorted(place.rpartition("/") for place in written)  # a PurePath would halve the // of a URL
    lines = []
    for folder, files in groupby(paths, lambda parts: parts[0]):
        within = [name for _, _, name in files]
        lines.append(f"{folder}: " + (", ".join(within) if len(within) <= NAMED else f"{len(within)} files"))
    return lines


def _times(steps: dict[str, float], seconds: float) -> list[str]:
    """The steps that took longest, the first first, and all else together; nothing of a run of a few seconds."""
    if seconds < 10:
        return []
    long = {name: taken for name, taken in steps.items() if taken >= TIMED * seconds}
    lines = sorted(long.items(), key=lambda item: -item[1])
    others = len(steps) - len(long)
    steps_besides = {0: "", 1: "1 other step, "}.get(others, f"{others} other steps, ")
    lines.append((f"{steps_besides}reading and writing", seconds - sum(long.values())))
    return [f"{_duration(taken)}, {taken / seconds:.0%}: {name}" for name, taken in lines]


def _numbers(headlines: dict[str, dict[str, Any]]) -> list[str]:
    """A line for every headline that was measured."""
    measured = [found for found in headlines.values() if "value" in found]
    width = max(len(found["what"]) for found in measured)
    lines = []
    for found in measured:
        value = interval(found["value"], found["low"], found["high"])
        floor = f"floor {number(found['floor'])}" if "floor" in found else ""
        lines.append(f"  {found['what']:<{width}}  {value:<24} {floor}".rstrip())
    return lines


def _address(run: Run, ui: str) -> str:
    """Of the run's page in MLflow, whose first page is about language models unless the address says otherwise."""
    server = mlflow.get_tracking_uri()
    place = re.sub("//[^/@]*@", "//", server).rstrip("/") if server.startswith("http") else ui  # without a password
    return f"{place}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?workflowType=machine_learning"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "less than a second"


def _places(catalog: DataCatalog, name: str) -> list[str]:
    """The files of an entry, from the working directory."""
    entry: Any = catalog.get(name)
    described = {} if entry is None or isinstance(entry, MemoryDataset) else entry._describe()
    if "filepath" not in described:
        return []
    protocol = described.get("protocol", "file")
    prefix = "" if protocol == "file" else f"{protocol}://"
    paths = getattr(entry, "paths", [described["filepath"]])
    return [prefix + str(path).removeprefix(f"{Path.cwd()}/") for path in paths]
