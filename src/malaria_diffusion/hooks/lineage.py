"""The doors of all nodes: what is given together must belong together."""

from __future__ import annotations

from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.cells.lineage import LineageError, refuse_other_cells, refuse_other_summary, refuse_other_weights
from malaria_diffusion.datasets.model import ModelDataset
from malaria_diffusion.errors import UserError
from malaria_diffusion.sentences import without_traceback

CELLS, SYNTHETIC, MODEL, PLAN = "cells", "synthetic_cells", "ddpm", "training_plan"
SUMMARY, GATE = "summary", "params:gate"


class LineageHooks:
    """Refuses, at the door of every node, cells, models and synthetic cells of different runs.

    Every node reads its inputs anew, so other commands may have changed the files since the last one.
    """

    def __init__(self) -> None:
        self._first: tuple[str, str] | None = None

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Look at what is there already, before any work."""
        self._first = None
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
            if SUMMARY in pipeline.inputs():
                self._refuse_other_summary(pipeline, catalog)

    @hook_impl
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Look at what a node is given."""
        self._check(inputs)

    def _check(self, given: dict[str, Any]) -> None:
        if (comparison := given.get("comparison")) is not None:
            given = given | {CELLS: comparison.study, SYNTHETIC: comparison.generated}
        lineages = {name: _lineage(given[name]) for name in (MODEL, SYNTHETIC, PLAN) if given.get(name) is not None}
        if (cells := given.get(CELLS)) is not None:
            self._refuse_changed(cells)
            for name, lineage in lineages.items():
                refuse_other_cells(lineage, cells.fingerprint, cells.table, synthetic=name == SYNTHETIC)
        if MODEL in lineages and SYNTHETIC in lineages:
            refuse_other_weights(lineages[MODEL], lineages[SYNTHETIC])

    def _refuse_other_summary(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Make sure that what is judged or put on a card is of the model at hand, if there is one."""
        if GATE in pipeline.inputs() and catalog.load(GATE).summaries is not None:
            return  # which names the runs it judges
        summary, model = catalog[SUMMARY].load(), _model_at_hand(catalog)
        if summary is not None and model is not None:
            refuse_other_summary(model, summary)

    def _refuse_changed(self, cells: Cells) -> None:
        """Make sure that the cells are those that the run began with."""
        rows = fingerprint_json(cells.table[["label", "name", "split", "audit"]].to_dict("list"))
        now = (cells.fingerprint, rows)
        if (self._first or now) != now:
            raise UserError("cells and cell_table were packed or split anew while this run was at work: run it again")
        self._first = now


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
