"""The graph in kedro viz: whole, in the order of the study, and with something to look at on its nodes."""

import inspect
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog

from malaria_diffusion.hooks.preflight import needed_besides
from malaria_diffusion.pipeline_registry import register_pipelines
from malaria_diffusion.settings import CONFIG_LOADER_ARGS

from ..projects import LAYERS, ROOT

FLOWS = register_pipelines()
PREVIEWS = {
    ".png": "ImagePreview",
    ".npy": "ImagePreview",
    ".csv": "TablePreview",
    ".parquet": "TablePreview",
    ".json": "JSONPreview",
    ".html": "HTMLPreview",
}
FOR_NOTEBOOKS = {"cell_table", "dataset_summary", "synthetic_table", "synthetic_lineage"}  # parts of other entries
USED = set().union(*(flow.datasets() for flow in FLOWS.values()))

every_flow = pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS.keys())


@pytest.fixture(scope="module")
def config():
    return OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS | {"default_run_env": "base"})


@pytest.fixture(scope="module")
def catalog(config):
    return DataCatalog.from_config(config["catalog"])


def viz_metadata(catalog, name):
    return (catalog[name].metadata or {}).get("kedro-viz", {}) if name in catalog else {}


def without_parameters(names):
    return {name for name in names if not name.startswith("params:")}


def test_every_catalog_entry_and_parameter_is_used_by_some_pipeline(config):
    entries = {name for name in config["catalog"] if not name.startswith("_") and "{" not in name}
    assert entries - FOR_NOTEBOOKS <= USED
    assert not FOR_NOTEBOOKS & USED
    for part, values in config["parameters"].items():
        if f"params:{part}" not in USED:
            assert {f"params:{part}.{key}" for key in values} <= USED


@every_flow
def test_what_only_memory_holds_is_made_and_used_in_the_same_pipeline(flow, catalog):
    loose = without_parameters(flow.inputs() | flow.outputs())
    assert {name for name in loose if name not in catalog} == set()


@every_flow
def test_the_nodes_to_name_besides_a_node_or_from_it_on_are_all_that_is_missing(flow, catalog):
    asked = 0
    for node in flow.nodes:
        for option, onwards in (("node_names", False), ("from_nodes", True)):
            part = flow.filter(**{option: [node.name]})
            if besides := needed_besides(part, catalog, FLOWS, onwards):
                asked += 1
                completed = FLOWS[besides.pipeline].filter(**{option: [node.name, *besides.nodes]})
                assert set(part.nodes) < set(completed.nodes)
                assert needed_besides(completed, catalog, FLOWS, onwards) is None
            else:
                assert all(name in catalog for name in without_parameters(part.inputs()))
    assert asked or all(name in catalog for name in without_parameters(flow.datasets()))


@every_flow
def test_every_node_is_in_the_box_of_a_pipeline_and_says_what_it_does(flow):
    for node in flow.nodes:
        assert (node.namespace or "").split(".")[0] in FLOWS, node.name
        assert inspect.getdoc(node.func), node.name


@every_flow
def test_what_stands_between_the_boxes_has_a_layer(flow, catalog):
    for box in {node.namespace.split(".")[0] for node in flow.nodes}:
        inside = flow.only_nodes_with_namespaces([box])
        outside = flow - inside
        shown = inside.inputs() | inside.outputs() | (inside.all_outputs() & outside.all_inputs())
        for name in without_parameters(shown):
            assert viz_metadata(catalog, name).get("layer") in LAYERS, name


@every_flow
def test_layers_follow_the_study(flow, catalog):
    """Nothing is made of what stands in a later layer; kedro viz would show no layers at all."""
    deepest = {}
    for node in flow.nodes:  # in the order of their dependencies
        depths = [deepest.setdefault(name, depth_of(catalog, name)) for name in without_parameters(node.inputs)]
        depth = max(depths, default=0)
        for name in node.outputs:
            own = depth_of(catalog, name)
            assert own is None or own >= depth, name
            deepest[name] = depth if own is None else own


def depth_of(catalog, name):
    layer = viz_metadata(catalog, name).get("layer")
    return LAYERS.index(layer) if layer else None


def test_what_is_kept_as_a_figure_a_table_or_numbers_has_a_preview(catalog):
    for name in (name for name in without_parameters(USED) if name in catalog):
        kind = PREVIEWS.get(Path(catalog[name]._describe()["filepath"]).suffix)
        if kind:
            signature = inspect.signature(catalog[name].preview)
            signature.bind(**viz_metadata(catalog, name).get("preview_args", {}))
            # as kedro viz reads it
            assert getattr(signature.return_annotation, "__name__", signature.return_annotation) == kind, name
