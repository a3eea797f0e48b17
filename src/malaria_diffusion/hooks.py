"""What surrounds every run: guidance before it, tracking around it."""

from __future__ import annotations

import difflib
import json
import logging
import os
import platform
import re
from importlib import metadata
from typing import Any

import click
import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.validation import ParameterValidationError
from kedro_mlflow.framework.hooks import MlflowHook
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.datasets.if_present import IfPresent
from malaria_diffusion.errors import UserError
from malaria_diffusion.pipelines import tracking

logger = logging.getLogger(__name__)

# parameters that the catalog reads, not a node
CATALOG_PARAMETERS = {"raw_cells"}
# what of `kedro run` makes it another command; parameters are compared besides
COMMAND = (
    "env",
    "pipeline_names",
    "tags",
    "node_names",
    "from_nodes",
    "to_nodes",
    "from_inputs",
    "to_outputs",
    "namespaces",
)
STUDY = ("data_processing", "diffusion", "validation")


class GuidanceHooks:
    """Stops a run that cannot succeed, in its first second, with one sentence that says what to do."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Check the parameters' types and ranges."""
        try:
            context.params  # noqa: B018  (reading validates)
        except ParameterValidationError as error:
            # kedro and pydantic say where they are and where to read on; a user needs the keys
            said = re.sub(
                r"Failed to instantiate .*\n|\s*\[type=value_error.*|\s*For further information.*", "", str(error)
            )
            said = re.sub(r" \[type=.*?, input_value=(.*), input_type=\w+\]", r", found \1", said)
            raise click.ClickException(said) from error

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check unknown parameters, inputs, what sampling leaves to validation, and initial weights."""
        self._refuse_unknown_parameters(catalog)
        self._refuse_missing_inputs(pipeline, catalog)
        self._refuse_one_sided_sampling(pipeline, catalog)
        self._fetch_initial_weights(pipeline, catalog)

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """End with the message, without a traceback, where a user can mend the cause."""
        while isinstance(error, DatasetError) and isinstance(error.__cause__, Exception):  # the catalog wraps ours
            error = error.__cause__
        if isinstance(error, UserError):
            raise click.ClickException(str(error)) from error

    def _refuse_unknown_parameters(self, catalog: CatalogProtocol) -> None:
        known = {name.removeprefix("params:") for flow in pipelines.values() for name in _parameters(flow)}
        known |= CATALOG_PARAMETERS
        for path in _paths(catalog.load("parameters")):
            if not any(path == key or path.startswith(key + ".") for key in known):
                near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
                hint = f"; did you mean something in {near[0]!r}?" if near else f"; known are {sorted(known)}"
                raise click.ClickException(f"parameter {path!r} is read by nothing{hint}")

    def _refuse_missing_inputs(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        for name in sorted(pipeline.inputs()):
            if name.startswith("params:") or name == "parameters" or catalog.exists(name):
                continue
            if isinstance(catalog[name], IfPresent):
                continue
            place = catalog[name]._describe().get("filepath", name)
            if name == "raw_cells":
                raise click.ClickException(
                    f"raw_cells: nothing at {place}; give a zip or folder of class folders with --params "
                    "raw_cells=PATH, or draw the phantom cells with `kedro run --pipeline phantom`"
                )
            maker = next((flow for flow in STUDY if name in pipelines[flow].all_outputs()), None)
            todo = f"run `kedro run --pipeline {maker}` first" if maker else "it must be there before the run"
            raise click.ClickException(f"{name} is missing ({place}): {todo}")

    def _refuse_one_sided_sampling(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        if {"params:diffusion.sampling", "params:validation.comparison"} <= pipeline.inputs():
            count = catalog.load("params:diffusion.sampling").count
            if isinstance(count, dict) and (len(count) < 2 or 0 in count.values()):
                raise click.ClickException(
                    f"diffusion.sampling.count is {count}, but the validation in the same run compares every class: "
                    "give one number for all, or sample with `kedro run --pipeline diffusion --tags sample`"
                )

    def _fetch_initial_weights(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        key = "params:validation.classifier"
        if key in pipeline.inputs():
            from malaria_diffusion.evaluation.classifier import check_weights, resolve_weights

            classifier = catalog.load(key)
            try:
                check_weights(resolve_weights(classifier.weights, catalog.load("workspace")), classifier)
            except (FileNotFoundError, UserError) as error:
                raise click.ClickException(str(error)) from error


class LauncherHooks:
    """Lets `accelerate launch` run the diffusion pipeline on several processes, of which the main one alone writes."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Keep what other processes make in their memory, and refuse pipelines that cannot share their work."""
        if process_count() == 1:
            return
        alone = sorted(node.name for node in pipeline.nodes if "diffusion" not in node.tags)
        if alone:
            raise click.ClickException(
                f"{process_count()} processes were launched, but {alone[0]!r} runs on one: launch "
                "`kedro run --pipeline diffusion`, and run the other pipelines without a launcher"
            )
        if not is_main_process():
            logging.getLogger("malaria_diffusion").setLevel(logging.WARNING)
            logging.getLogger("kedro").setLevel(logging.WARNING)
            for name in pipeline.all_outputs():
                catalog[name] = MemoryDataset(copy_mode="assign")


def process_count() -> int:
    """Processes that a launcher has started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the one that writes and logs."""
    return os.environ.get("RANK", "0") == "0"


class TrackingHooks(MlflowHook):
    """kedro-mlflow's hook, with parameters flattened, the code and environment recorded, and runs continued.

    A run that was killed or failed is continued in MLflow, too, when the same command is given again.
    """

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open the MLflow run, or the one of the same command that did not finish."""
        workspace = catalog.load("workspace")
        self._open_runs = workspace / "open_mlflow_runs.json"
        command = {name: run_params[name] for name in COMMAND}
        self._signature = fingerprint_json([command, _plain(catalog.load("parameters")), _data(pipeline, catalog)])
        runs = self._read_open_runs()
        if _can_be_continued(runs.get(self._signature)):
            self.mlflow_config.tracking.run.id = runs[self._signature]
            logger.info("continuing MLflow run %s", runs[self._signature])
        super().before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        if not self._is_mlflow_enabled:
            return
        self._write_open_runs(runs | {self._signature: self.run_id})
        mlflow.set_tags({"code_version": tracking.code_version(), "env": run_params["env"] or "local"})
        mlflow.log_text("\n".join(installed_packages()), "environment.txt")

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Log the node's parameters, typed ones as the plain values they hold."""
        plain = {name: _plain(value) for name, value in inputs.items() if name.startswith("params:")}
        super().before_node_run(node=node, catalog=catalog, inputs=plain, is_async=is_async)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Close the MLflow run."""
        super().after_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        runs = self._read_open_runs()
        runs.pop(self._signature, None)
        self._write_open_runs(runs)

    def _read_open_runs(self) -> dict[str, str]:
        return json.loads(self._open_runs.read_text()) if self._open_runs.exists() else {}

    def _write_open_runs(self, runs: dict[str, str]) -> None:
        beside = self._open_runs.with_suffix(".tmp")
        beside.write_text(json.dumps(runs))
        beside.replace(self._open_runs)


def installed_packages() -> list[str]:
    """Python, platform, and every installed package with its version."""
    packages = {f"{package.metadata['Name']}=={package.version}" for package in metadata.distributions()}
    return [
        f"python=={platform.python_version()}",
        f"platform=={platform.platform()}",
        *sorted(packages, key=str.lower),
    ]


def _can_be_continued(run_id: str | None) -> bool:
    if run_id is None:
        return False
    try:
        return mlflow.MlflowClient().get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:  # another tracking server, or a deleted run
        return False


def _data(pipeline: Pipeline, catalog: CatalogProtocol) -> Any:
    """What tells the data of this run from other data."""
    if "raw_cells" in pipeline.inputs():
        return catalog["raw_cells"].state()
    return catalog.load("dataset_summary")["fingerprint"] if catalog.exists("dataset_summary") else None


def _parameters(pipeline: Pipeline) -> set[str]:
    return {name for name in pipeline.inputs() if name.startswith("params:")}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _paths(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted paths of all leaves that no typed model has taken."""
    paths = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        paths += _paths(value, path + ".") if isinstance(value, dict) else [path]
    return paths
