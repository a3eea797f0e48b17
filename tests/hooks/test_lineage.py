"""No node joins cells, models and synthetic cells of different runs."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click import ClickException
from kedro.io import DataCatalog, DatasetError, MemoryDataset

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_cells, fingerprint_names, fingerprints_of
from malaria_diffusion.cells.split import training_cells_fingerprint
from malaria_diffusion.datasets import cells as entries
from malaria_diffusion.datasets.cells import PackedCells, SyntheticCells
from malaria_diffusion.datasets.model import ModelDataset
from malaria_diffusion.errors import UserError
from malaria_diffusion.hooks.lineage import LineageHooks
from malaria_diffusion.pipeline_registry import register_pipelines

FLOWS = register_pipelines()
NODES = {node.name: node for flow in FLOWS.values() for node in flow.nodes}
OF_CELLS = {"cells", "comparison"}
OF_MODELS = {"ddpm", "training_plan", "synthetic_cells", "comparison"}
JOINING = [name for name, node in NODES.items() if OF_CELLS & set(node.inputs) and OF_MODELS & set(node.inputs)]
SAMPLING = [node.name for node in FLOWS["diffusion"].filter(tags=["sample"]).nodes]


def pixels(seed):
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


class Lineages(MemoryDataset):
    """A model, of which nothing but its lineage is asked."""

    def lineage(self):
        return self.load()


def packed(seed, table=TABLE):
    images = pixels(seed)
    about = {"images": "real cells", "classes": ["A"], "fingerprint": fingerprint_cells(images, table)}
    return Cells(images, table, about)


@pytest.fixture
def catalog(tmp_path):
    """What a finished study leaves."""
    lineage = {
        "identity": "m",
        "best_epoch": 1,
        "training": {"guide_epochs": None},
        "cells_fingerprint": packed(0).fingerprint,
        "training_cells_fingerprint": training_cells_fingerprint(TABLE),
        "training_people": ["P"],
        "training_cells": [],
        "class_names": ["A"],
    }
    table = pd.DataFrame(
        {"label": "A", "model_identity": ["m"] * 2, "training_people_hash": [fingerprint_names(["P"])] * 2}
    )
    catalog = DataCatalog(
        {
            "cells": PackedCells(filepath=str(tmp_path / "cells.npy")),
            "synthetic_cells": SyntheticCells(filepath=str(tmp_path / "synthetic_cells.npy")),
            "ddpm": Lineages(lineage),
            "training_plan": MemoryDataset(lineage | {"best_epoch": None}, copy_mode="assign"),
        }
    )
    catalog["cells"].save(packed(0))
    catalog["synthetic_cells"].save(Cells.of_model(pixels(2)[:2], table, lineage))
    return catalog


def enter(catalog, name, hooks=None):
    """Come to the door of a node with what the catalog has for it."""
    inputs = (OF_CELLS | OF_MODELS) & set(NODES[name].inputs)
    given = {each: catalog[each].load() for each in inputs - {"comparison"}}
    if "comparison" in inputs:
        study, generated = catalog["cells"].load(), catalog["synthetic_cells"].load()
        given["comparison"] = SimpleNamespace(study=study, generated=generated)
    (hooks or LineageHooks()).before_node_run(NODES[name], catalog, given)


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
    table = TABLE.assign(split=TABLE["split"].to_numpy()[::-1]) if change == "split" else TABLE
    catalog["cells"].save(packed(int(change == "pixels"), table))
    with pytest.raises(UserError, match=r"model m( of the synthetic cells)? trained on other cells"):
        enter(catalog, name)


@pytest.mark.parametrize(
    ("model", "todo"), [(None, "sample .* --tags sample`"), (0, "sample .* --tags sample`"), (1, "train .* diffusion`")]
)
def test_synthetic_cells_of_other_cells_are_sampled_anew_if_the_model_at_hand_can(catalog, tmp_path, model, todo):
    """Which trained on the current cells (0), or on others, too (1)."""
    lineage = catalog["ddpm"].load()
    catalog["ddpm"] = ModelDataset(filepath=str(tmp_path / "ddpm"))
    if model is not None:
        (tmp_path / "ddpm").mkdir()
        known = lineage | {"cells_fingerprint": packed(model).fingerprint}
        (tmp_path / "ddpm/lineage.json").write_text(json.dumps(known))
    made = catalog["synthetic_cells"].load()
    other = lineage | {"cells_fingerprint": packed(1).fingerprint}
    catalog["synthetic_cells"].save(Cells.of_model(made.pixels, made.table, other))
    with pytest.raises(ClickException, match=f"or {todo}$"):
        LineageHooks().before_pipeline_run(FLOWS["reader_study"], catalog)


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_asks_for_no_cells(catalog, name):
    catalog["cells"].save(packed(1))
    enter(catalog, name)


def test_a_validation_is_refused_before_any_work(catalog):
    LineageHooks().before_pipeline_run(FLOWS["validation"], catalog)
    catalog["ddpm"] = Lineages(catalog["ddpm"].load() | {"best_epoch": 2})
    with pytest.raises(ClickException, match="ddpm is training m, epoch 2, but the synthetic cells are by m, epoch 1"):
        LineageHooks().before_pipeline_run(FLOWS["validation"], catalog)


def test_cells_packed_by_another_command_during_a_run_pass_no_door(catalog):
    hooks = LineageHooks()
    hooks.before_pipeline_run(FLOWS["folds"], catalog)
    enter(catalog, "folds.judge_protocols", hooks)
    catalog["cells"].save(packed(1))
    with pytest.raises(UserError, match="cells changed while this run was at work"):
        enter(catalog, "folds.draw_mistakes", hooks)


def test_files_of_different_runs_are_refused_by_whoever_reads_them(catalog, tmp_path):
    other = tmp_path / "other"
    PackedCells(filepath=str(other / "cells.npy")).save(packed(1))
    (other / "cells.npy").replace(tmp_path / "cells.npy")
    with pytest.raises(ClickException, match="dataset_summary of"):
        LineageHooks().before_pipeline_run(FLOWS["folds"], catalog)
    lineage = tmp_path / "synthetic_lineage.json"
    lineage.write_text(json.dumps(json.loads(lineage.read_text()) | {"identity": "other"}))
    with pytest.raises(DatasetError, match="synthetic_lineage is of"):
        catalog["synthetic_cells"].load()


def test_pixels_are_read_once_a_run(catalog, monkeypatch):
    read = []
    monkeypatch.setattr(entries, "fingerprints_of", lambda *given: read.append(1) or fingerprints_of(*given))
    catalog["cells"].save(packed(3))  # of which nobody knows the fingerprint yet
    for _ in range(3):
        catalog["cells"].load()
    assert len(read) == 1
