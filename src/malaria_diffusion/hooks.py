"""What comes before every run: guidance, and the launcher's other processes."""

from __future__ import annotations

import difflib
import logging
import os
import re
from typing import Any

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.validation import ParameterValidationError

from malaria_diffusion.cells.fetch import is_url
from malaria_diffusion.datasets.if_present import IfPresent
from malaria_diffusion.datasets.store import check_package, check_store
from malaria_diffusion.sentences import sentence, without_traceback
from malaria_diffusion.tracking_hooks import flat

logger = logging.getLogger(__name__)

# parameters that the catalog reads, not a node
CATALOG_PARAMETERS = {"raw_cells", "synthetic_images"}
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
    def after_catalog_created(self, conf_catalog: dict[str, Any]) -> None:
        """Note the places outside this machine, and check that there are packages for them."""
        self._stores = sorted({place.rpartition("/")[0] for place in _remote_places(conf_catalog)})
        with without_traceback():
            for place in self._stores:
                check_package(place)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Check stores, unknown parameters, inputs, what sampling leaves to validation, and initial weights."""
        with without_traceback():
            for place in self._stores:
                check_store(place)
        self._refuse_unknown_parameters(catalog)
        self._refuse_missing_inputs(pipeline, catalog)
        self._refuse_one_sided_sampling(pipeline, catalog)
        self._refuse_to_overwrite(pipeline, catalog)
        self._fetch_initial_weights(pipeline, catalog)

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """End with the message, without a traceback, where a user can mend the cause."""
        if said := sentence(error):
            raise click.ClickException(said) from error

    def _refuse_unknown_parameters(self, catalog: CatalogProtocol) -> None:
        known = {name.removeprefix("params:") for flow in pipelines.values() for name in _parameters(flow)}
        known |= CATALOG_PARAMETERS
        for path in flat(catalog.load("parameters")):  # leaves that no typed model has taken
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

    def _refuse_to_overwrite(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        if is_main_process() and "synthetic_images" in pipeline.all_outputs():
            with without_traceback():
                catalog["synthetic_images"].check()

    def _fetch_initial_weights(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        key = "params:validation.classifier"
        if key in pipeline.inputs():
            from malaria_diffusion.evaluation.classifier import check_weights, resolve_weights

            classifier = catalog.load(key)
            with without_traceback():
                check_weights(resolve_weights(classifier.weights, catalog.load("workspace")), classifier)


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
            logging.getLogger("kedro").setLevel(logging.ERROR)  # it warns of every dataset that is replaced here
            for name in pipeline.all_outputs():
                catalog[name] = MemoryDataset(copy_mode="assign")


def process_count() -> int:
    """Processes that a launcher has started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the one that writes and logs."""
    return os.environ.get("RANK", "0") == "0"


def _parameters(pipeline: Pipeline) -> set[str]:
    return {name for name in pipeline.inputs() if name.startswith("params:")}


def _remote_places(entries: dict[str, Any]) -> list[str]:
    """URLs that the catalog writes to."""
    places = []
    for name, entry in entries.items():
        if isinstance(entry, dict) and name != "raw_cells":
            places += _remote_places(entry)
        elif name == "filepath" and is_url(str(entry)):
            places.append(entry)
    return places
