"""No result is joined with one of other cells, another split, another sampling, another model or classifier."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click import ClickException
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_cells, fingerprint_names
from malaria_diffusion.cells.split import training_cells_fingerprint
from malaria_diffusion.datasets.origin import note, noted
from malaria_diffusion.errors import UserError
from malaria_diffusion.hooks import lineage as doors
from malaria_diffusion.hooks.origins import SEALED, origins
from malaria_diffusion.pipeline_registry import register_pipelines

FLOWS = register_pipelines()
SPLIT = ["train"] * 4 + ["val", "test"]


def box(name, *nodes):
    return Pipeline(
        [Node(*node, name=node[0].__name__) for node in nodes], namespace=name, prefix_datasets_with_namespace=False
    )


def choose(cells, synthetic):
    return SimpleNamespace(study=cells, generated=synthetic)


def train(cells, comparison, workspace):
    return workspace


def predict(classifier, comparison):
    return "predictions"


def measure(predictions):
    return "tests"


def summarise(cells, synthetic, tests, predictions, metrics):
    return str(metrics)


def judge(classifier, cells):
    return "judged"


def fold(cells):
    return "metrics"


def draw(metrics):
    return "drawn"


TOY = {
    "validation": box(
        "validation",
        (choose, ["cells", "synthetic_cells"], "comparison"),
        (train, ["cells", "comparison", "workspace"], "yolo_classifier"),
        (predict, ["yolo_classifier", "comparison"], "predictions"),
        (measure, "predictions", "tests"),
        (summarise, ["cells", "synthetic_cells", "tests", "predictions", "protocol_metrics"], "report"),
    ),
    "generative": box("generative", (judge, ["yolo_classifier", "cells"], "judged")),
    "folds": box("folds", (fold, "cells", "protocol_metrics"), (draw, "protocol_metrics", "drawn")),
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Toy pipelines of the study's names, with what they read."""
    monkeypatch.setattr(doors, "pipelines", TOY)
    text = {name: {"type": "text.TextDataset"} for name in ("predictions", "tests", "report", "judged", "drawn")}
    entries = {name: entry | {"filepath": f"{tmp_path}/{name}.txt"} for name, entry in text.items()}
    present = {"type": "text.TextDataset", "filepath": f"{tmp_path}/folds/metrics.txt"}
    entries["protocol_metrics"] = {"type": "malaria_diffusion.datasets.if_present.IfPresent", "dataset": present}
    for name, kind in {
        "cells": "cells.PackedCells",
        "synthetic_cells": "cells.SyntheticCells",
        "yolo_classifier": "finished.FinishedPath",
        "workspace": "finished.FinishedPath",
    }.items():
        entries[name] = {"type": f"malaria_diffusion.datasets.{kind}", "filepath": f"{tmp_path}/{name}"}
    found = SimpleNamespace(folder=tmp_path, catalog=DataCatalog.from_config(entries))
    pack(found)
    sample(found)
    train_anew(found)
    return found


def images(seed):
    return np.random.default_rng(seed).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)


def pack(project, split=SPLIT):
    names = [f"{number}.png" for number in range(6)]
    table = pd.DataFrame({"name": names, "path": names, "label": "A", "split": split, "audit": False})
    table["sha256"] = [f"{number:064}" for number in range(6)]
    project.packed = Cells(images(0), table, {"classes": ["A"], "fingerprint": fingerprint_cells(images(0), table)})
    project.catalog["cells"].save(project.packed)


def sample(project, seed=1, identity="m"):
    """By a model of the training cells at hand."""
    lineage = {
        "identity": identity,
        "cells_fingerprint": project.packed.fingerprint,
        "training_cells_fingerprint": training_cells_fingerprint(project.packed.table),
        "training_people": ["P"],
        "training_cells": [],
        "class_names": ["A"],
    }
    table = pd.DataFrame(
        {"label": "A", "model_identity": identity, "training_people_hash": fingerprint_names(["P"])}, range(6)
    )
    project.catalog["synthetic_cells"].save(Cells.of_model(images(seed), table, lineage))


def train_anew(project, weights="weights"):
    (project.folder / "workspace").write_text(weights)


def run(project, *names, flow="validation"):
    """Run a pipeline, or those nodes of it, with the hooks as Kedro calls them."""
    manager = _create_hook_manager()
    manager.register(doors.LineageHooks())
    pipeline = TOY[flow].filter(node_names=[f"{flow}.{name}" for name in names] or None)
    manager.hook.before_pipeline_run(run_params={}, pipeline=pipeline, catalog=project.catalog)
    SequentialRunner().run(pipeline, project.catalog, hook_manager=manager)


def test_what_nothing_has_changed_is_joined(project):
    run(project)
    run(project, "measure")
    run(project, "summarise")
    run(project, flow="generative")


def test_what_is_made_again_as_it_was_is_joined(project):
    run(project)
    pack(project)
    sample(project)
    run(project, "train", "choose")
    run(project, "summarise")


def resplit(project):
    pack(project, SPLIT[::-1])
    sample(project)


def of_another_model(project):
    sample(project, identity="n")


def of_another_seed(project):
    sample(project, seed=2)


def of_another_classifier(project):
    train_anew(project, "other weights")
    run(project, "choose", "train")


CHANGES = {resplit: "cells", of_another_model: "synthetic_cells", of_another_seed: "synthetic_cells"}
CHANGES |= {of_another_classifier: "yolo_classifier"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_summary_joins_no_results_of_others_and_says_so_before_any_work(project, change):
    run(project)
    change(project)
    with pytest.raises(
        ClickException, match=rf"predictions was made of other {CHANGES[change]}.*: `kedro run --pipeline validation`"
    ):
        run(project, "summarise")
    run(project)


def test_fresh_cells_are_not_joined_with_old_predictions_in_the_middle_of_a_run(project):
    run(project)
    of_another_seed(project)
    with pytest.raises(ClickException, match="predictions was made of other synthetic_cells than those at hand"):
        run(project, "choose", "measure")


def test_a_classifier_of_another_split_judges_nothing(project):
    run(project)
    of_another_model(project)
    run(project, flow="generative")  # which the classifier has not learned from
    resplit(project)
    said = "yolo_classifier was made of other cells .*--pipeline validation --to-outputs yolo_classifier"
    for nodes, flow in ((("judge",), "generative"), (("choose", "predict"), "validation")):
        with pytest.raises(ClickException, match=said):
            run(project, *nodes, flow=flow)


def test_what_can_be_done_without_is_left_out_if_it_is_of_another_split(project):
    run(project, flow="folds")
    run(project)
    assert project.catalog["report"].load() == "metrics"
    resplit(project)
    run(project)
    assert project.catalog["report"].load() == "None"
    with pytest.raises(UserError, match=r"protocol_metrics was made of other cells .*make it again"):
        run(project, "draw", flow="folds")


def test_a_result_of_a_killed_run_or_of_an_earlier_version_is_not_trusted(project):
    run(project)
    hooks, entry = doors.LineageHooks(), project.catalog["predictions"]
    assert set(noted("predictions", entry)) == {"cells", "synthetic_cells", "yolo_classifier"}
    hooks.before_pipeline_run(TOY["validation"], project.catalog)
    hooks.before_dataset_saved("predictions")  # and then it is killed
    assert noted("predictions", entry) is None
    with pytest.raises(ClickException, match="predictions: not known of which cells and synthetic_cells and yolo"):
        run(project, "measure")


def test_a_classifier_that_has_come_from_elsewhere_judges_nothing(project):
    run(project)
    (project.folder / "yolo_classifier").write_text("weights of another project")
    with pytest.raises(ClickException, match="yolo_classifier: not known of which cells it was made"):
        run(project, flow="generative")


def test_what_another_run_changes_in_the_meantime_is_noticed_when_a_result_is_saved(project, monkeypatch):
    run(project)
    hooks = doors.LineageHooks()
    hooks.before_pipeline_run(TOY["validation"].filter(node_names=["validation.measure"]), project.catalog)
    of_another_seed(project)
    with pytest.raises(UserError, match="synthetic_cells changed while this run was at work"):
        hooks.after_dataset_saved("tests")


def test_notes_lie_beside_their_results_also_in_a_store(tmp_path):
    for place in (f"{tmp_path}/reports/a.csv", "memory://reports/a.csv"):
        entry = DataCatalog.from_config({"a": {"type": "pandas.CSVDataset", "filepath": place}})["a"]
        assert noted("a", entry) is None
        note("a", entry, {"cells": "1"})
        assert noted("a", entry) == {"cells": "1"}
        note("a", entry, None)
        note("a", entry, None)
        assert noted("a", entry) is None
    assert (tmp_path / "reports/made_of").is_dir()


def test_of_every_result_that_the_report_joins_it_is_known_what_it_is_made_of():
    found = origins(FLOWS)
    nodes = FLOWS["validation"].filter(tags=["validation"]).nodes
    joined = {name for node in nodes if node.namespace == "validation.report" for name in node.inputs}
    unknown = {name for name in joined if not name.startswith("params:")} - found.keys()
    # The reference model's sheet is shipped, not made: it is another model's, and labelled so.
    assert unknown == {"cells", "synthetic_cells", "ddpm", "rejected_cells", "reference_sheet"}
    assert found["summary"].made_of == {"cells", "ddpm"}  # it is judged after another sampling of the model, too
    assert found["yolo_classifier"].made_of == {"cells", "yolo_classifier"}
    assert found["protocol_metrics"].made_of == found["ablation_claims"].made_of == {"cells"}
    assert found["variational_bound"].made_of == {"cells", "ddpm"}
    assert not SEALED & found.keys()
    assert found["figure_0_dataset"].remedy.removeprefix("--nodes ") in {
        node.name for node in FLOWS["__default__"].nodes
    }
