"""What surrounds every run: an MLflow run that says what it is, with its parameters, data, code and models."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks import MlflowHook
from mlflow.exceptions import MlflowException
from pydantic import BaseModel

from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.parameters import flat
from malaria_diffusion.pipelines import tracking
from malaria_diffusion.tracking_server import check_server

logger = logging.getLogger(__name__)

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

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Connect to the tracking server, or stop at once."""
        with check_server(context.config_loader["mlflow"]["server"]["mlflow_tracking_uri"]):
            super().after_context_created(context)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open the MLflow run, or the one of the same command that did not finish, and say what it is."""
        workspace = catalog.load("workspace")
        self._open_runs = workspace / "open_mlflow_runs.json"
        self._catalog = catalog
        command = {name: run_params[name] for name in COMMAND}
        self._signature = fingerprint_json([command, _plain(catalog.load("parameters")), _data(pipeline, catalog)])
        runs = self._read_open_runs()
        if _can_be_continued(runs.get(self._signature)):
            self.mlflow_config.tracking.run.id = runs[self._signature]
            logger.info("continuing MLflow run %s", runs[self._signature])
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
        self._write_open_runs(runs | {self._signature: self.run_id})
        tags = {
            "environment": run_params["env"] or "local",
            "pipeline": names.replace("__default__", "study"),
            "code_version": tracking.code_version(),
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
        if {"cells", "cell_table", "dataset_summary"} & pipeline.inputs() and catalog.exists("dataset_summary"):
            self._describe_data(catalog.load("dataset_summary"))

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Take the MLflow run along into the node's thread; the parameters are logged already."""
        super().before_node_run(node=node, catalog=catalog, inputs={}, is_async=is_async)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Say which data the run is about once they are there, and register a model that is finished."""
        if not (self._is_mlflow_enabled and mlflow.active_run()):
            return
        if dataset_name == "dataset_summary":
            self._describe_data(data)
        elif dataset_name in ("ddpm", "yolo_classifier"):
            self._register_model(dataset_name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Close the MLflow run."""
        super().after_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        while mlflow.active_run() and not self._already_active_mlflow:  # it opened once more for every node
            mlflow.end_run()
        runs = self._read_open_runs()
        runs.pop(self._signature, None)
        self._write_open_runs(runs)

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

        path = self._catalog.load(dataset_name)
        if dataset_name == "ddpm":
            version = ddpm_version(path, self._catalog.load("params:diffusion.sampling"))
        else:
            epochs = self._catalog.load("params:validation.classifier").epochs
            version = classifier_version(path, self._catalog.load("dataset_summary"), epochs)
        registered = register(version, self.mlflow_config.tracking.experiment.name)
        mlflow.set_tag(f"model.{version.suffix}", registered)
        logger.info("models:/%s is this model in MLflow's registry", registered)

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


def _lineage(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[str, Any] | None:
    """Of the DDPM, or of the synthetic cells, that the run is given."""
    if "synthetic_lineage" in pipeline.inputs():
        return catalog.load("synthetic_lineage")
    return json.loads((catalog.load("ddpm") / "lineage.json").read_text()) if "ddpm" in pipeline.inputs() else None


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


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
