"""The doors of all nodes: what is given together must belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from numpy.typing import NDArray

from malaria_diffusion.cells.fingerprint import check_summary, fingerprint_cells, fingerprint_json
from malaria_diffusion.cells.lineage import refuse_other_cells, refuse_other_model, refuse_other_weights
from malaria_diffusion.errors import UserError

CELLS = ("cells", "cell_table")
SUMMARY = "dataset_summary"
SYNTHETIC = ("synthetic_cells", "synthetic_table", "synthetic_lineage")


class LineageHooks:
    """Refuses, at the door of every node, cells, models and synthetic cells of different runs.

    Every node reads its inputs anew, so other commands may have changed the files since the last one.
    """

    def __init__(self) -> None:
        self._fingerprints: dict[tuple[Any, ...], str] = {}
        self._first: tuple[str, str] | None = None

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Look at what is there already, before any work."""
        self._first = None
        there = pipeline.inputs() & {*CELLS, SUMMARY, *SYNTHETIC, "ddpm"}
        try:
            self._check({name: catalog[name].load() for name in there}, catalog)
        except UserError as error:
            raise click.ClickException(str(error)) from error

    @hook_impl
    def before_node_run(self, catalog: DataCatalog, inputs: dict[str, Any]) -> None:
        """Look at what a node is given."""
        self._check(inputs, catalog)

    def _check(self, given: dict[str, Any], catalog: DataCatalog) -> None:
        def whole(names: tuple[str, ...]) -> list[Any] | None:
            """What is given of `names`, the rest as the catalog has it; None if it has not."""
            missing = [name for name in names if name not in given]
            if not all(catalog.exists(name) for name in missing):
                return None
            return [given[name] if name in given else catalog[name].load() for name in names]

        lineages: dict[str, dict[str, Any] | None] = {
            name: _lineage(given[name]) for name in ("ddpm", "training_plan") if name in given
        }
        if not given.keys().isdisjoint(SYNTHETIC) and (synthetic := whole(SYNTHETIC)):
            refuse_other_model(*synthetic)
            lineages["synthetic_lineage"] = synthetic[-1]
        with_cells = "cells" in given or (lineages and not given.keys().isdisjoint((*CELLS, SUMMARY)))
        if with_cells and (cells := whole(CELLS)):
            fingerprint = self._fingerprint(*cells)
            if SUMMARY in given:
                check_summary(given[SUMMARY], fingerprint)
            for lineage in filter(None, lineages.values()):
                refuse_other_cells(lineage, fingerprint, cells[1])
        if (model := lineages.get("ddpm")) and (theirs := lineages.get("synthetic_lineage")):
            refuse_other_weights(model, theirs)

    def _fingerprint(self, cells: NDArray[np.uint8], table: pd.DataFrame) -> str:
        """Of the cells, which must be those that the run began with; pixels are read once."""
        rows = fingerprint_json(table[["label", "name", "split", "audit"]].to_dict("list"))
        state = Path(cells.filename).stat() if isinstance(cells, np.memmap) and cells.filename else None
        key = (state.st_ino, state.st_mtime_ns, state.st_size, rows) if state else (id(cells), rows)
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint_cells(cells, table)
        now = (self._fingerprints[key], rows)
        if (self._first or now) != now:
            raise UserError("cells and cell_table were packed or split anew while this run was at work: run it again")
        self._first = now
        return now[0]


def _lineage(given: Any) -> dict[str, Any] | None:
    """Of a model's folder, or what is one already; None of a folder without, of which `load` says more."""
    if isinstance(given, dict):
        return given
    try:
        lineage: dict[str, Any] = json.loads((given / "lineage.json").read_text())
    except (OSError, ValueError):
        return None
    return lineage
