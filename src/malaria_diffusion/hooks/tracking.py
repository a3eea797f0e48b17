"""What surrounds every run: an MLflow run that says what it is, with its parameters, data, code and models."""

from __future__ import annotations

import atexit
import json
import logging
import os
import platform
import re
import shlex
import signal
import sys
import threading
from contextlib import chdir
from functools import partial
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks import MlflowHook
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.config import flat
from malaria_diffusion.datasets.if_present import IfPresent
from malaria_diffusion.datasets.result import Result
from malaria_diffusion.errors import UserError
from malaria_diffusion.files import locked, whole
from malaria_diffusion.observer import set_observer
from malaria_diffusion.sentences import without_traceback
from malaria_diffusion.studies.gate.judge import RefusedError
from malaria_diffusion.tracking import log as tracking
from malaria_diffusion.tracking.server import check_server
from malaria_diffusion.version import code_version

logger = logging.getLogger(__name__)

RUN_ID = "MLFLOW_RUN_ID"

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


class TrackingHooks(MlflowHook):
    """kedro-mlflow's hook, with runs that can be compared, data and models registered, and runs continued.

    A run that was killed or failed is continued in MLflow, too, when the same command is given again.
    """

    run_id: Any  # a str from where a run is open, for which kedro-mlflow has no annotation

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Connect to the tracking server, or stop at once."""
        config = context.config_loader["mlflow"]
        # MLflow puts artefacts of a database into a folder of the working directory that it connects in
        with (
            check_server(config["server"]["mlflow_tracking_uri"], context.project_path) as uri,
            chdir(context.project_path),
        ):
            config["server"]["mlflow_tracking_uri"] = uri
            context.config_loader["mlflow"] = config
            super().after_context_created(context)

    @hook_impl
    @without_traceback()
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Open the MLflow run, or the one of the same command that did not finish, and say what it is."""
        workspace = catalog.load("workspace")
        self._open_runs = workspace / "open_mlflow_runs.json"
        self._catalog = catalog
        command = {name: run_params[name] for name in COMMAND}
        self._signature = fingerprint_json([command, _plain(catalog.load("parameters")), _data(pipeline, catalog)])
        open_run = self._read_open_runs().get(self._signature)
        if given := os.environ.get(RUN_ID):
            _check_given_run(given, self.mlflow_config.tracking.experiment.name)
        elif _can_be_continued(open_run):
            self.mlflow_config.tracking.run.id = open_run
            logger.info("continuing MLflow run %s", open_run)
        parameters = {name: _plain(catalog.load(name)) for name in pipeline.inputs() if name.startswith("params:")}
        self._title = partial(_title, run_params, parameters)
        self.mlflow_config.tracking.run.name = self._title()
        names = _pipeline_name(run_params)
        # what else it would make tags of is the session's: paths, objects, and an identifier of its own
        super().before_pipeline_run(
            run_params=dict.fromkeys(run_params) | {"pipeline_names": names}, pipeline=pipeline, catalog=catalog
        )
        if not self._is_mlflow_enabled:
            return
        set_observer(tracking.MlflowObserver())
        self._end_when_stopped()
        self._change_open_runs({self._signature: self.run_id})
        tags = {
            "environment": run_params["env"] or "local",
            "pipeline": names.replace("__default__", "study"),
            "code_version": code_version(),
            "kedro_command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        }
        if "params:validation.classifier" in parameters:
            tags["classifier_weights"] = parameters["params:validation.classifier"]["weights"] or "from scratch"
        if lineage := _lineage(pipeline, catalog):
            images = "phantom cells" if lineage["phantom"] else "real cells"
            tags |= {
                "mlflow.runName": self._title(images),
                "images": images,
                "data_fingerprint": lineage["cells_fingerprint"],
                "training_identity": lineage["identity"],
            }
        mlflow.set_tags(tags)
        mlflow.MlflowClient().delete_tag(self.run_id, "pipeline_names")
        mlflow.log_params(
            {
                f"{name.removeprefix('params:')}.{field}": value
                for name, fields in parameters.items()
                for field, value in fields.items()
            }
        )
        mlflow.log_text("\n".join(installed_packages()), "environment.txt")
        if "cells" in pipeline.inputs():
            self._describe_data(_facts(catalog))

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool) -> None:
        """Take the MLflow run along into the node's thread; the parameters are logged already."""
        super().before_node_run(node=node, catalog=catalog, inputs={}, is_async=is_async)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Keep results as artefacts, say which data the run is about, and register a model that is finished.

        Kedro calls this in the thread of the node, which has the MLflow run, whatever thread has saved.
        """
        if not self._is_mlflow_enabled:
            return
        entry = self._catalog[dataset_name]
        if isinstance(entry, IfPresent):
            entry = entry.wrapped
        if isinstance(entry, Result):
            entry.log(self.run_id)
        if dataset_name == "cells":
            self._describe_data(data.about)
        elif dataset_name in ("ddpm", "yolo_classifier"):
            self._register_model(dataset_name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Close the MLflow run."""
        super().after_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        while mlflow.active_run() and not self._already_active_mlflow:  # it opened once more for every node
            mlflow.end_run()
        atexit.unregister(self._end_as_killed)
        self._change_open_runs({self._signature: None})

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Close the MLflow run as failed; where that fails too, as on a full disk, the first error is told."""
        atexit.unregister(self._end_as_killed)
        if isinstance(error, RefusedError):  # that is an answer: the next one is another run
            self._change_open_runs({self._signature: None})
        try:
            super().on_pipeline_error(error=error, run_params=run_params, pipeline=pipeline, catalog=catalog)
        except Exception as another:  # of databases, servers and disks
            logger.warning("the MLflow run %s could not be closed (%s)", self.run_id, another)

    def _end_when_stopped(self) -> None:
        """Have Ctrl-C and SIGTERM end the MLflow run as killed; Kedro's hooks learn of exceptions only."""
        if self._already_active_mlflow:
            return
        atexit.register(self._end_as_killed)  # runs before MLflow's own, which would say that the run is finished
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _exit)

    def _end_as_killed(self) -> None:
        try:
            while mlflow.active_run():
                mlflow.end_run("KILLED")
            mlflow.MlflowClient().set_terminated(self.run_id, "KILLED")  # if another thread has opened it
        except Exception as error:  # of databases, servers and disks
            logger.warning("the MLflow run %s could not be closed (%s)", self.run_id, error)

    def _describe_data(self, dataset_summary: dict[str, Any]) -> None:
        mlflow.set_tags(
            {
                "mlflow.runName": self._title(dataset_summary["images"]),
                "images": dataset_summary["images"],
                "data_source": dataset_summary["source"],
                "data_fingerprint": dataset_summary["fingerprint"],
                "split": dataset_summary["split_strategy"],
            }
        )
        tracking.log_cells(dataset_summary)

    def _register_model(self, dataset_name: str) -> None:
        from malaria_diffusion.serving.classifier import classifier_version
        from malaria_diffusion.serving.ddpm import ddpm_version
        from malaria_diffusion.serving.registry import register

        if dataset_name == "ddpm":
            model: Any = self._catalog[dataset_name]
            version = ddpm_version(model.path, self._catalog.load("params:diffusion.sampling"))
        else:
            epochs = self._catalog.load("params:validation.classifier").epochs
            version = classifier_version(self._catalog.load(dataset_name), _facts(self._catalog), epochs)
        registered = register(version, self.mlflow_config.tracking.experiment.name)
        mlflow.set_tag(f"model.{version.suffix}", registered)
        logger.info("models:/%s is this model in MLflow's registry", registered)

    def _read_open_runs(self) -> dict[str, str]:
        if not self._open_runs.exists():
            return {}
        try:
            return dict(json.loads(self._open_runs.read_text()))
        except (ValueError, TypeError):
            logger.warning(
                "%s is damaged and written anew: a run that was killed goes on with its work, in a new MLflow run",
                self._open_runs,
            )
            return {}

    def _change_open_runs(self, changes: dict[str, str | None]) -> None:
        with locked(self._open_runs), whole(self._open_runs) as beside:
            runs = self._read_open_runs() | changes
            beside.write_text(json.dumps({signature: run for signature, run in runs.items() if run}))


def installed_packages() -> list[str]:
    """Python, platform, and every installed package with its version."""
    heads = (
        package.read_text("METADATA") or package.read_text("PKG-INFO") or "" for package in metadata.distributions()
    )
    named = (dict(re.findall(r"^(Name|Version): (.+)$", head, re.MULTILINE)[:2]) for head in heads)
    # metadata's own parser takes half a second for what every environment has
    packages = {f"{head['Name']}=={head['Version']}" for head in named if len(head) == 2}
    return [
        f"python=={platform.python_version()}",
        f"platform=={platform.platform()}",
        *sorted(packages, key=str.lower),
    ]


def _pipeline_name(run_params: dict[str, Any]) -> str:
    return "+".join(run_params["pipeline_names"] or ["__default__"])


def _title(run_params: dict[str, Any], parameters: dict[str, Any], images: str | None = None) -> str:
    """A run's name: what was done, to which images if that is known, how long, and what was changed."""
    what = _pipeline_name(run_params).replace("__default__", "study")
    parts_of_it = ("namespaces", "tags", "node_names", "from_nodes", "to_nodes")
    chosen = [name.rpartition(".")[2] for part in parts_of_it for name in run_params.get(part) or ()]
    if chosen:
        what += f" ({', '.join(chosen)})"
    if images:
        what += f" on {images}"
    parts = [f"environment {run_params['env']}"] if run_params["env"] not in (None, "local") else []
    if "params:diffusion.training" in parameters:
        parts.append(f"{parameters['params:diffusion.training']['epochs']} epochs")
    given = flat(run_params["runtime_params"] or {})
    shown = {".".join(key.split(".")[-2:]): value for key, value in given.items() if key != "raw_cells"}
    shown.pop("training.epochs", None)
    return ", ".join([what, *parts, *(f"{key}={value}" for key, value in shown.items())])


def _lineage(pipeline: Pipeline, catalog: DataCatalog) -> dict[str, Any] | None:
    """Of the DDPM, or of the synthetic cells, that the run is given."""
    if "synthetic_cells" in pipeline.inputs():
        return _facts(catalog, "synthetic_cells")
    if "ddpm" in pipeline.inputs():
        model: Any = catalog["ddpm"]
        lineage: dict[str, Any] | None = model.lineage()
        return lineage
    return None


def _facts(catalog: DataCatalog, name: str = "cells") -> dict[str, Any]:
    """What all cells of an entry have in common, without reading these."""
    entry: Any = catalog[name]
    facts: dict[str, Any] = entry.facts()
    return facts


def _check_given_run(run_id: str, experiment: str) -> None:
    """Make sure that the run which the environment names, as an outer `mlflow run` does, is one of ours.

    Raises:
        UserError: there is no such run, or it belongs to another experiment.
    """
    try:
        run = mlflow.MlflowClient().get_run(run_id)
        found = repr(mlflow.get_experiment(run.info.experiment_id).name)
    except MlflowException:
        found = "no such run"
    if found != repr(experiment):
        raise UserError(
            f"{RUN_ID}={run_id}: found {found}, expected a run of the experiment {experiment!r}; unset {RUN_ID}, or "
            "give its experiment as tracking.experiment.name in conf/local/mlflow.yml"
        )


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does, files being cleaned up; a second signal kills."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def _can_be_continued(run_id: str | None) -> bool:
    if run_id is None:
        return False
    try:
        return mlflow.MlflowClient().get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:  # another tracking server, or a deleted run
        return False


def _data(pipeline: Pipeline, catalog: DataCatalog) -> Any:
    """What tells the data of this run from other data."""
    if "raw_cells" in pipeline.inputs():
        entry: Any = catalog["raw_cells"]
        return entry.state()
    return _facts(catalog)["fingerprint"] if catalog.exists("cells") else None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
