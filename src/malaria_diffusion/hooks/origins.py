"""Which cells, models and synthetic cells a result is made of, as the pipelines say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from malaria_diffusion.errors import Remedy

CELLS, SYNTHETIC, MODEL, CLASSIFIER = "cells", "synthetic_cells", "ddpm", "yolo_classifier"
SOURCES = {CELLS, SYNTHETIC, MODEL, CLASSIFIER}
OF_CELLS_ALONE = {CLASSIFIER, "yolo_history"}  # its training is given synthetic cells to refuse them in time
TRAINING_FIGURE = "figure_7_training_loss"
OF_ANY_SAMPLES = {"summary"}  # which names its model, and stays true when that is sampled anew
SEALED = {"reader_key", "reader_scores"}  # readers answer when other cells may long be there


class Origin(NamedTuple):
    """Where a result comes from.

    Attributes:
        name: Of the result.
        made_of: Names of sources, of the nearest ones: what a source itself was made of is not among them.
        pipeline: That makes it.
    """

    name: str
    made_of: frozenset[str]
    pipeline: str

    @property
    def remedy(self) -> str:
        """How it is made again, see `UserError`."""
        if self.pipeline == "data_processing":
            return Remedy.DATASET_FIGURE  # without packing
        if self.name == TRAINING_FIGURE:
            return Remedy.TRAINING
        if self.pipeline == "diffusion" and MODEL in self.made_of:
            return Remedy.BOUND  # without training
        if self.name == CLASSIFIER:
            return Remedy.CLASSIFIER  # without all that is measured with it
        return f"--pipeline {self.pipeline}"

    def is_of(self, node: Node) -> bool:
        """Whether it is made by the pipeline of this node."""
        return _pipeline_of(node) == self.pipeline


def origins(flows: Mapping[str, Pipeline]) -> dict[str, Origin]:
    """Of all that one node makes of a source and another one takes, by its name."""
    nodes = [node for flow in flows.values() for node in flow.nodes]
    makers = {made: node for node in nodes for made in node.outputs}

    @cache
    def sources_of(name: str) -> frozenset[str]:
        given = makers[name].inputs if name in makers else []
        found = frozenset[str]().union(*({each} if each in SOURCES else sources_of(each) for each in given))
        if name in OF_CELLS_ALONE:
            return found & {CELLS}
        return found & {CELLS, MODEL} if name in OF_ANY_SAMPLES else found

    return {
        name: Origin(name, sources_of(name) | ({name} & SOURCES), _pipeline_of(makers[name]))
        for name in sorted(makers.keys() & {taken for node in nodes for taken in node.inputs})
        if name not in SEALED | (SOURCES - {CLASSIFIER}) and sources_of(name)
    }


def _pipeline_of(node: Node) -> str:
    return (node.namespace or "").partition(".")[0]
