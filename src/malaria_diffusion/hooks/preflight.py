"""What comes before every run: guidance, and the launcher's other processes."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import Pipeline
from kedro.validation import ParameterValidationError

from malaria_diffusion.cells.download import is_url
from malaria_diffusion.config import flat
from malaria_diffusion.datasets.if_present import IfPresent
from malaria_diffusion.datasets.model import ModelDataset
from malaria_diffusion.datasets.store import check_package, check_store
from malaria_diffusion.sentences import sentence, without_traceback
from malaria_diffusion.statistics.comparison import FEWEST_OF_A_CLASS

logger = logging.getLogger(__name__)

# parameters that the catalog reads, not a node
CATALOG_PARAMETERS = {"raw_cells", "synthetic_images"}
MAKERS = ("data_processing", "diffusion", "validation", "reader_study")  # of what others read


class PreflightHooks:
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
        """Note the places outside this machine, and check that there are packages for them, and names as written."""
        for name in sorted(CATALOG_PARAMETERS):
            place = conf_catalog[name]["filepath"]
            if not isinstance(place, str | Path):
                raise click.ClickException(
                    f"{name}: expected a path, found {place!r}, which is what YAML makes of a name such as 2024_05 "
                    "or no: put it in quotes"
                )
        self._stores = sorted({place.rpartition("/")[0] for place in _remote_places(conf_catalog)})
        with without_traceback():
            for place in self._stores:
                check_package(place)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check runner, stores, parameters, inputs, what sampling leaves to validation, and networks' weights."""
        if isinstance(catalog, SharedMemoryDataCatalog):  # not of the project's settings, and hooks of each process
            raise click.ClickException(
                "ParallelRunner: its processes would overwrite earlier files in place and tell nobody what they make; "
                "give --runner ThreadRunner, or no runner"
            )
        with without_traceback():
            for place in self._stores:
                check_store(place)
        self._refuse_unknown_parameters(catalog)
        refuse_unread_parameters(run_params["runtime_params"] or {}, pipeline, pipelines)
        self._refuse_missing_inputs(pipeline, catalog, bool(run_params["from_nodes"]))
        self._refuse_one_sided_sampling(pipeline, catalog)
        self._refuse_to_overwrite(pipeline, catalog)
        self._fetch_initial_weights(pipeline, catalog)
        self._check_inception(pipeline, catalog)

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """End with the message, without a traceback, where a user can fix the cause."""
        if said := sentence(error):
            raise click.ClickException(said) from error

    def _refuse_unknown_parameters(self, catalog: DataCatalog) -> None:
        known = set[str]().union(*(_read_by(flow) for flow in pipelines.values()))
        for path in flat(catalog.load("parameters")):  # leaves that no typed model has taken
            if not _is_read(path, known):
                near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
                hint = f"; did you mean something in {near[0]!r}?" if near else f"; known are {sorted(known)}"
                raise click.ClickException(f"parameter {path!r} is read by nothing{hint}")

    def _refuse_missing_inputs(self, pipeline: Pipeline, catalog: DataCatalog, onwards: bool) -> None:
        if besides := needed_besides(pipeline, catalog, pipelines, onwards):
            whole = "kedro run" if besides.pipeline == "__default__" else f"kedro run --pipeline {besides.pipeline}"
            raise click.ClickException(
                f"{', '.join(besides.data)} is kept in memory only, while a run lasts: name the nodes "
                f"{','.join(besides.nodes)} as well, or run all of `{whole}`"
            )
        for name in sorted(pipeline.inputs()):
            if name.startswith("params:") or catalog.exists(name):
                continue
            if isinstance(entry := catalog[name], IfPresent) or (isinstance(entry, ModelDataset) and entry.is_shipped):
                continue
            place = catalog[name]._describe().get("filepath", name)
            if name == "raw_cells":
                drawn = catalog["phantom_cells"]._describe()["filepath"] == place
                raise click.ClickException(
                    f"raw_cells: nothing at {place}; give a zip or folder of class folders with --params raw_cells=PATH"
                    + (", or draw the phantom cells with `kedro run --pipeline phantom`" if drawn else "")
                )
            maker = next((flow for flow in MAKERS if name in pipelines[flow].all_outputs()), None)
            todo = f"run `kedro run --pipeline {maker}` first" if maker else "it must be there before the run"
            raise click.ClickException(f"{name} is missing ({place}): {todo}")

    def _refuse_one_sided_sampling(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        if {"comparison", "synthetic_cells"} <= pipeline.all_outputs():
            count = catalog.load("params:diffusion.sampling").count
            counts = count if isinstance(count, dict) else {"each": count}
            packed: Any = catalog["cells"]
            if min(counts.values()) < FEWEST_OF_A_CLASS or (
                isinstance(count, dict)
                and (len(count) < 2 or ("cells" in pipeline.inputs() and set(packed.facts()["classes"]) - count.keys()))
            ):
                raise click.ClickException(
                    f"diffusion.sampling.count is {count}, but the validation in the same run compares every class, "
                    f"at least {FEWEST_OF_A_CLASS} cells of each: give one such number for all, or sample with "
                    "`kedro run --pipeline diffusion --tags sample`"
                )

    def _refuse_to_overwrite(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        if is_main_process() and "synthetic_images" in pipeline.all_outputs():
            with without_traceback():
                entry: Any = catalog["synthetic_images"]
                entry.check()

    def _fetch_initial_weights(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        key = "params:validation.classifier"
        if key in pipeline.inputs():
            from malaria_diffusion.classifier.trainer import check_weights, resolve_weights

            classifier = catalog.load(key)
            with without_traceback():
                check_weights(resolve_weights(classifier.weights, catalog.load("workspace")), classifier)

    def _check_inception(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        key = "params:validation.fidelity"
        if key in pipeline.inputs() and (weights := catalog.load(key).inception_weights):
            from malaria_diffusion.questions.fidelity.inception import inception

            with without_traceback():
                inception(Path(weights))


class LauncherHooks:
    """Lets `accelerate launch` run the diffusion pipeline on several processes, of which the main one alone writes."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
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


def refuse_unread_parameters(given: dict[str, Any], pipeline: Pipeline, flows: Mapping[str, Pipeline]) -> None:
    """Make sure that the pipeline reads all that is given to its run alone, unlike what configuration files say.

    Args:
        given: Parameters of the run.
        pipeline: What runs.
        flows: All pipelines by name.

    Raises:
        ClickException: naming the parameter, and pipelines that read it.
    """
    read = _read_by(pipeline)
    for path in flat(given):
        if not _is_read(path, read):
            readers = [name for name in flows if name != "__default__" and _is_read(path, _read_by(flows[name]))]
            raise click.ClickException(
                f"parameter {path!r} is read by nothing in this run, but in {' and '.join(readers)}: give it to "
                f"`kedro run --pipeline {readers[0]}`, or leave it out"
            )


class Besides(NamedTuple):
    """What a part of a pipeline cannot run without.

    Attributes:
        data: What it needs that no file holds.
        nodes: Names of those that make it.
        pipeline: Name of one that has them all.
    """

    data: list[str]
    nodes: list[str]
    pipeline: str


def needed_besides(
    part: Pipeline, catalog: DataCatalog, flows: Mapping[str, Pipeline], onwards: bool
) -> Besides | None:
    """The nodes that must run in the same run, because memory alone holds what they make; None if nothing is missing.

    Args:
        part: Some nodes of one of `flows`.
        catalog: What files hold.
        flows: All pipelines by name.
        onwards: Whether a node that is named brings those that need it (`--from-nodes`).
    """

    def in_memory(pipeline: Pipeline) -> list[str]:
        return sorted(name for name in pipeline.inputs() if not name.startswith("params:") and name not in catalog)

    data = in_memory(part)
    if not data:
        return None
    # the smallest that has all of it: the study has what its pipelines have
    holding = (name for name, flow in flows.items() if set(part.nodes) <= set(flow.nodes))
    pipeline = min(holding, key=lambda name: len(flows[name].nodes))
    named, completed = list[str](), part
    while missing := set(in_memory(completed)):
        makers = [node.name for node in flows[pipeline].nodes if missing & set(node.outputs)]
        completed += flows[pipeline].filter(**{"from_nodes" if onwards else "node_names": makers})
        named += makers
    return Besides(data, named, pipeline)


def process_count() -> int:
    """Processes that a launcher has started, 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the one that writes and logs."""
    return os.environ.get("RANK", "0") == "0"


def _read_by(pipeline: Pipeline) -> set[str]:
    """What of the parameters the pipeline reads, by their paths."""
    parameters = {name.removeprefix("params:") for name in pipeline.inputs() if name.startswith("params:")}
    return parameters | (CATALOG_PARAMETERS & pipeline.datasets())


def _is_read(path: str, read: set[str]) -> bool:
    return any(path == key or path.startswith(key + ".") for key in read)


def _remote_places(entries: dict[str, Any]) -> list[str]:
    """URLs that the catalog writes to."""
    places = []
    for name, entry in entries.items():
        if isinstance(entry, dict) and name != "raw_cells":
            places += _remote_places(entry)
        elif name == "filepath" and is_url(str(entry)):
            places.append(entry)
    return places
