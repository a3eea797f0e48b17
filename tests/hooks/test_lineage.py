"""No node joins cells, models and synthetic cells of different runs."""

import json

import numpy as np
import pandas as pd
import pytest
from click import ClickException
from kedro.io import DataCatalog, MemoryDataset
from kedro_datasets.json import JSONDataset

from malaria_diffusion.cells.fingerprint import fingerprint_cells, fingerprint_names
from malaria_diffusion.cells.split import training_cells_fingerprint
from malaria_diffusion.datasets.finished import MemoryMap
from malaria_diffusion.errors import UserError
from malaria_diffusion.hooks import lineage as lineage_hooks
from malaria_diffusion.hooks.lineage import LineageHooks
from malaria_diffusion.pipeline_registry import register_pipelines

FLOWS = register_pipelines()
NODES = {node.name: node for flow in FLOWS.values() for node in flow.nodes}
OF_CELLS = {"cells", "cell_table", "dataset_summary"}
OF_MODELS = {"ddpm", "training_plan", "synthetic_cells", "synthetic_table", "synthetic_lineage"}
JOINING = [name for name, node in NODES.items() if OF_CELLS & set(node.inputs) and OF_MODELS & set(node.inputs)]
SAMPLING = [node.name for node in FLOWS["diffusion"].filter(tags=["sample"]).nodes]


def cells_of(seed):
    return np.random.default_rng(seed).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)


TABLE = pd.DataFrame(
    {
        "name": [f"{number}.png" for number in range(6)],
        "path": [f"A/{number}.png" for number in range(6)],
        "label": "A",
        "split": ["train"] * 4 + ["val", "test"],
        "audit": False,
        "sha256": [f"{number:064}" for number in range(6)],
    }
)


@pytest.fixture
def catalog(tmp_path):
    """What a finished study leaves."""
    cells = MemoryMap(filepath=str(tmp_path / "cells.npy"))
    cells.save(cells_of(0))
    lineage = {
        "identity": "m",
        "best_epoch": 1,
        "cells_fingerprint": fingerprint_cells(cells_of(0), TABLE),
        "training_cells_fingerprint": training_cells_fingerprint(TABLE),
        "training_people": ["P"],
        "training_cells": [],
    }
    (tmp_path / "ddpm").mkdir()
    (tmp_path / "ddpm/lineage.json").write_text(json.dumps(lineage | {"sha256": {}}))
    table = pd.DataFrame({"model_identity": ["m"] * 2, "training_people_hash": [fingerprint_names(["P"])] * 2})
    synthetic_lineage = JSONDataset(filepath=str(tmp_path / "lineage.json"))
    synthetic_lineage.save(lineage)
    given = {
        "cell_table": TABLE,
        "dataset_summary": {"fingerprint": lineage["cells_fingerprint"]},
        "ddpm": tmp_path / "ddpm",
        "training_plan": lineage | {"best_epoch": None},
        "synthetic_cells": cells_of(2)[:2],
        "synthetic_table": table,
    }
    held = {name: MemoryDataset(value, copy_mode="assign") for name, value in given.items()}
    return DataCatalog(held | {"cells": cells, "synthetic_lineage": synthetic_lineage})


def enter(catalog, name, hooks=None):
    """Come to the door of a node with what the catalog has for it."""
    given = {each: catalog[each].load() for each in (OF_CELLS | OF_MODELS) & set(NODES[name].inputs)}
    (hooks or LineageHooks()).before_node_run(catalog, given)


@pytest.mark.parametrize("name", NODES)
def test_what_belongs_together_passes_every_door(catalog, name):
    enter(catalog, name)


def test_there_are_such_nodes():
    assert {"diffusion.measure_bound", "diffusion.draw_process", "diffusion.train_ddpm"} <= set(JOINING)
    assert {"guidance.compare_guidance_scales", "validation.privacy.attack_membership"} <= set(JOINING)
    assert "validation.comparison.choose_cells" in JOINING


@pytest.mark.parametrize("change", ["pixels", "split"])
@pytest.mark.parametrize("name", JOINING)
def test_cells_that_the_model_has_not_trained_on_pass_no_door(catalog, name, change):
    table = TABLE.copy()
    if change == "pixels":
        catalog["cells"].save(cells_of(1))
    else:
        table["split"] = table["split"].to_numpy()[::-1]
    catalog["cell_table"] = MemoryDataset(table)
    summary = {"fingerprint": fingerprint_cells(catalog["cells"].load(), table)}
    catalog["dataset_summary"] = MemoryDataset(summary)
    with pytest.raises(UserError, match="model m trained on other cells"):
        enter(catalog, name)


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_asks_for_no_cells(catalog, name):
    catalog["cells"].save(cells_of(1))
    enter(catalog, name)


@pytest.mark.parametrize("name", [name for name, node in NODES.items() if "synthetic_table" in node.inputs])
def test_synthetic_cells_and_the_lineage_of_another_model_pass_no_door(catalog, name):
    lineage = catalog["synthetic_lineage"].load()
    catalog["synthetic_lineage"].save(lineage | {"identity": "other"})
    with pytest.raises(UserError, match="synthetic_lineage is of"):
        enter(catalog, name)


def test_a_validation_is_refused_before_any_work(catalog):
    LineageHooks().before_pipeline_run(FLOWS["validation"], catalog)
    lineage = json.loads((catalog["ddpm"].load() / "lineage.json").read_text())
    (catalog["ddpm"].load() / "lineage.json").write_text(json.dumps(lineage | {"best_epoch": 2}))
    with pytest.raises(ClickException, match="ddpm is training m, epoch 2, but the synthetic cells are by m, epoch 1"):
        LineageHooks().before_pipeline_run(FLOWS["validation"], catalog)


def test_cells_packed_by_another_command_during_a_run_pass_no_door(catalog):
    hooks = LineageHooks()
    hooks.before_pipeline_run(FLOWS["folds"], catalog)
    enter(catalog, "folds.judge_protocols", hooks)
    catalog["cells"].save(cells_of(1))
    with pytest.raises(UserError, match="packed or split anew while this run was at work"):
        enter(catalog, "folds.draw_mistakes", hooks)
    with pytest.raises(ClickException, match="dataset_summary of"):  # the next run begins with them
        hooks.before_pipeline_run(FLOWS["folds"], catalog)


def test_pixels_are_read_once_a_run(catalog, monkeypatch):
    read = []
    monkeypatch.setattr(lineage_hooks, "fingerprint_cells", lambda *given: read.append(1) or fingerprint_cells(*given))
    hooks = LineageHooks()
    hooks.before_pipeline_run(FLOWS["validation"], catalog)
    for node in FLOWS["validation"].nodes:
        enter(catalog, node.name, hooks)
    assert len(read) == 1
