"""The doors of all nodes: what is given together must belong together."""

from __future__ import annotations

import logging
from collections.abc import Set
from functools import cached_property
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.lineage import (
    LineageError,
    refuse_other_cells,
    refuse_other_origin,
    refuse_other_summary,
    refuse_other_weights,
    weights_of,
)
from malaria_diffusion.datasets.if_present import IfPresent
from malaria_diffusion.datasets.model import ModelDataset
from malaria_diffusion.datasets.origin import note, noted
from malaria_diffusion.errors import UserError
from malaria_diffusion.hooks.origins import CELLS, MODEL, SYNTHETIC, Origin, origins
from malaria_diffusion.sentences import sentence, without_traceback

logger = logging.getLogger(__name__)

PLAN = "training_plan"
SUMMARY, GATE = "summary", "params:gate"


class LineageHooks:
    """Refuses, at the door of every node, cells, models, synthetic cells and results of different runs.

    Every node reads its inputs anew, so other commands may have changed the files since the last one. What a result
    was made of is noted when it is saved.
    """

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    @cached_property
    def _origins(self) -> dict[str, Origin]:
        return origins(pipelines)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Look at what is there already, before any work."""
        self._seen, self._catalog = {}, catalog
        there = pipeline.inputs() & {CELLS, SYNTHETIC}
        with without_traceback():
            given = {name: catalog[name].load() for name in there}
            if MODEL in pipeline.inputs():
                entry: Any = catalog[MODEL]
                given[MODEL] = entry.lineage()
            try:
                self._check(given)
            except LineageError:
                self._check({CELLS: given.get(CELLS), MODEL: _model_at_hand(catalog)})  # if it is no better, train
                raise
            for name in sorted(pipeline.inputs()):
                if not isinstance(catalog.get(name), IfPresent):
                    self._refuse_other_origin(name, pipeline.all_outputs())
            if SUMMARY in pipeline.inputs():
                self._refuse_other_summary(pipeline, catalog)

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any]) -> dict[str, None]:
        """Look at what a node is given; what it can do without and is of other cells is left out."""
        self._catalog = catalog
        self._check(inputs)
        left_out: dict[str, None] = {}
        for name in (name for name in node.inputs if inputs.get(name) is not None):
            try:
                self._refuse_other_origin(name)
            except LineageError as error:
                if self._origins[name].is_of(node) or not isinstance(catalog[name], IfPresent):
                    raise
                logger.warning("%s; until then it is left out", sentence(error))
                left_out[name] = None
        return left_out

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Forget of what the earlier one was made, so that a kill leaves nothing that is wrong."""
        if entry := self._kept(dataset_name):
            note(dataset_name, entry, None)

    @hook_impl(tryfirst=True)
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Note of what it was made, before anything else that a save sets off can fail."""
        self._seen.pop(dataset_name, None)
        if entry := self._kept(dataset_name):
            note(dataset_name, entry, self._at_hand(self._origins[dataset_name].made_of))

    def _check(self, given: dict[str, Any]) -> None:
        if (comparison := given.get("comparison")) is not None:
            given = given | {CELLS: comparison.study, SYNTHETIC: comparison.generated}
        lineages = {name: _lineage(given[name]) for name in (MODEL, SYNTHETIC, PLAN) if given.get(name) is not None}
        for name in (CELLS, SYNTHETIC):
            if given.get(name) is not None:
                self._see(name, given[name].state)
        if (cells := given.get(CELLS)) is not None:
            for name, lineage in lineages.items():
                refuse_other_cells(lineage, cells.fingerprint, cells.table, synthetic=name == SYNTHETIC)
        if MODEL in lineages:
            self._see(MODEL, weights_of(lineages[MODEL]))
            if SYNTHETIC in lineages:
                refuse_other_weights(lineages[MODEL], lineages[SYNTHETIC])

    def _refuse_other_summary(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Make sure that what is judged or put on a card is of the model at hand, if there is one."""
        if GATE in pipeline.inputs() and catalog.load(GATE).summaries is not None:
            return  # which names the runs it judges
        summary, model = catalog[SUMMARY].load(), _model_at_hand(catalog)
        if summary is not None:
            if model is not None:
                refuse_other_summary(model, summary)
            self._refuse_other_origin(SUMMARY, pipeline.all_outputs())

    def _refuse_other_origin(self, name: str, still_to_come: Set[str] = frozenset()) -> None:
        """Make sure that a result was made of what is at hand, as far as this run does not make that anew."""
        if entry := self._kept(name):
            origin = self._origins[name]
            if now := self._at_hand(origin.made_of - still_to_come):
                refuse_other_origin(name, noted(name, entry), now, origin.remedy)

    def _kept(self, name: str) -> Any:
        """The entry of a result of which it is noted what it was made of; None of anything else, or without a file."""
        entry = self._catalog.get(name) if name in self._origins else None
        return entry if entry is not None and "filepath" in entry._describe() else None

    def _at_hand(self, names: frozenset[str]) -> dict[str, str]:
        """What tells these from others now, of those that are there."""
        states = {}
        for name in sorted(names):
            entry: Any = self._catalog.get(name)
            if hasattr(entry, "state") and (state := entry.state()) is not None:
                self._see(name, state)
                states[name] = state
        return states

    def _see(self, name: str, state: str | None) -> None:
        """Make sure that this is what the run began with, or has made itself."""
        if state is not None and self._seen.setdefault(name, state) != state:
            raise UserError(f"{name} changed while this run was at work, by another one: run it again")


def _model_at_hand(catalog: DataCatalog) -> dict[str, Any] | None:
    """The lineage of the model that a run would sample from; None if there is none."""
    entry = catalog[MODEL]
    return entry.lineage() if isinstance(entry, ModelDataset) else None


def _lineage(given: Any) -> dict[str, Any]:
    """Of a model, of synthetic cells, or what is one already."""
    if isinstance(given, dict):
        return given
    if isinstance(given, Cells):
        return given.lineage or {}
    lineage: dict[str, Any] = given.lineage.model_dump(mode="json")
    return lineage
