"""What a run says: each step, and at the end what there is and how to go on."""

import json
import re
from types import SimpleNamespace

import mlflow
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from malaria_diffusion.hooks.progress import closing_lines, described

from ..projects import make_project


def study(cells):
    """Summarise the study.

    And more that nobody reads while it runs.
    """
    return cells, {}, {}


UI = "http://127.0.0.1:5000"
PIPELINE = Pipeline([Node(study, inputs="cells", outputs=["report", "summary", "in_memory"], name="study")])


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow, "last_active_run", lambda: None)
    summary = JSONDataset(filepath=str(tmp_path / "summary.json"))
    summary.save(
        {
            "headlines": {
                "accuracy": {"what": "accuracy", "value": 0.91, "low": 0.9, "high": 0.92},
                "fidelity": {"what": "kernel distance", "value": 12.0, "low": 11.0, "high": 13.0, "floor": 0.01},
                "novelty": {"what": "novelty", "reason": "too few people"},
            }
        }
    )
    report = JSONDataset(filepath=str(tmp_path / "report.html"))
    return DataCatalog({"summary": summary, "report": report, "in_memory": MemoryDataset()})


def test_a_step_is_described_by_the_first_sentence_of_its_function():
    assert described(PIPELINE.nodes[0]) == "study: Summarise the study."


def test_the_end_tells_files_numbers_and_commands(catalog, tmp_path):
    steps = {"diffusion.train": 3000.0, "validation.look": 500.0, "tiny": 3.0, "tinier": 1.0}
    lines = closing_lines(PIPELINE.all_outputs(), catalog, {"env": "paper"}, 3723, steps, UI)
    assert lines[0] == "Done in 1 h 2 min 3 s."
    assert f"{tmp_path}: report.html, summary.json" in lines[1]
    text = "\n".join(lines)
    times = [line.removeprefix("  time     ") for line in lines if line.startswith("  time ")]
    assert times == [
        "50 min, 81%: diffusion.train",
        "8 min 20 s, 13%: validation.look",
        "3 min 43 s, 6%: 2 other steps, reading and writing",
    ]
    assert re.search(r"accuracy +0.910 \[0.900, 0.920\]\n", text)
    assert re.search(r"kernel distance +12.0 \[11.0, 13.0\] +floor 0.010\n", text)
    assert "too few people" not in text
    assert f"report   {tmp_path}/report.html" in text
    assert "kedro mlflow ui --env paper" in text
    assert lines[-1].endswith("kedro run --pipeline folds --env paper")


@pytest.mark.parametrize(
    ("others", "said"), [(0, "reading"), (1, "1 other step, reading"), (2, "2 other steps, reading")]
)
def test_steps_are_counted_in_english(catalog, others, said):
    steps = {"long": 90.0} | dict.fromkeys([f"short {number}" for number in range(others)], 0.1)
    text = "\n".join(closing_lines(set(), catalog, {"env": None}, 100, steps, UI))
    assert re.search(rf"%: {said} and writing\n", text)


@pytest.mark.parametrize(
    ("tracking", "place"), [("sqlite:///mlflow.db", UI), ("https://me:secret@host/mlflow/", "https://host/mlflow")]
)
def test_the_end_tells_where_this_run_is(catalog, monkeypatch, tracking, place):
    info = SimpleNamespace(experiment_id="1", run_id="0a1b", run_name="study on phantom cells")
    monkeypatch.setattr(mlflow, "last_active_run", lambda: SimpleNamespace(info=info))
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: tracking)
    text = "\n".join(closing_lines(set(), catalog, {"env": None}, 1, {}, UI))
    page = f"{place}/#/experiments/1/runs/0a1b?workflowType=machine_learning"
    assert f"this run {page}   (study on phantom cells)\n" in text


def test_the_end_tells_nothing_of_what_another_run_has_made(catalog, tmp_path):
    text = "\n".join(closing_lines({"summary"}, catalog, {"env": None}, 1, {}, UI))
    assert f"made     {tmp_path}: summary.json\n" in text
    assert "report.html" not in text
    text = "\n".join(closing_lines(set(), catalog, {"env": None}, 1, {}, UI))
    assert "made     nothing" in text
    assert "next" not in text


def test_a_run_says_each_step_and_warns_of_nothing(tmp_path):
    project = make_project(tmp_path)
    new = project.cold("run", "--pipeline", "data_processing")  # its imports may warn; a forked one has made them
    printed = new.stdout + new.stderr
    assert new.returncode == 0, printed
    assert "WARNING" not in printed
    assert "WARNING" not in project.succeeds("run", "--pipeline", "data_processing", "--tags", "data_processing")
    for step in (1, 2):
        assert f"[{step}/2] " in printed
    assert "packing cells: 100%" in printed
    assert (
        "made     data/03_primary: cell_table.parquet, cells.npy, dataset_summary.json, rejected_cells.csv" in printed
    )
    assert "next     kedro run --pipeline diffusion" in printed
    assert re.search(rf"this run {UI}/#/experiments/1/runs/\w{{32}}\?", printed)
    summary = json.loads((project.folder / "data/03_primary/dataset_summary.json").read_text())
    classes = ", ".join(f"{name} {number}" for name, number in summary["cells_by_class"].items())
    assert f"classes, which are the innermost folders: {classes} " in printed
    assert f"  classes  {classes}\n" in printed
    (tmp_path / "data/08_reporting/figure_0_dataset.png").unlink()
    printed = project.succeeds("run", "--pipeline", "data_processing", "--only-missing-outputs")
    assert "made     data/08_reporting: figure_0_dataset.png" in printed
    assert "cells.npy" not in printed.partition("Done in")[2]
