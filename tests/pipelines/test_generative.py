"""The diffusion model as a classifier, and attacked, on a tiny project: whole, and refused where something is amiss."""

import json
from io import StringIO

import pandas as pd
import pytest

from malaria_diffusion.studies.generative.panel import JUDGES

from ..projects import TINY, make_processed_project

RUN = ("run", "--pipeline", "generative")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    # the paper's few steps leave no noise; here the levels must differ
    tiny = TINY | {"diffusion": TINY["diffusion"] | {"process": {"timesteps": 10, "beta_end": 0.9}}}
    project = make_processed_project(tmp_path_factory.mktemp("project"), tiny)
    project.succeeds("run", "--pipeline", "diffusion")
    return project


def test_shadow_models_attack_the_same_project_and_are_trained_once(project):
    shadows = ("run", "--pipeline", "shadow_models", "--params", "shadow_models.images=32,shadow_models.cells=110")
    reports, work = project.folder / "data/08_reporting", project.folder / "data/02_intermediate/shadow_models"
    project.succeeds(*shadows)
    summary = json.loads((reports / "shadow_summary.json").read_text())
    assert summary["shadow models"]["verdict"] in ("members are told apart", "nothing found by this attack")
    assert "audit_fraction" in summary["diffusion model"]["reason"]  # a handful of audit cells
    table = pd.read_csv(reports / "shadow_metrics.csv")
    assert (table["target"].str.match(r"shadow \d")).sum() == 4 * 2
    assert (reports / "figure_shadow_models.png").stat().st_size > 10_000
    trained = sorted(work.rglob("*.safetensors"))
    before = [path.stat().st_mtime_ns for path in trained]
    assert len(trained) >= 4
    project.succeeds(*shadows)
    assert [path.stat().st_mtime_ns for path in sorted(work.rglob("*.safetensors"))] == before
    pd.testing.assert_frame_equal(pd.read_csv(reports / "shadow_metrics.csv"), table)


@pytest.fixture(scope="module")
def judged(project):
    assert "yolo_classifier is missing" in project.fails(*RUN)
    project.succeeds("run", "--pipeline", "validation", "--to-outputs", "yolo_classifier")
    project.succeeds(*RUN)
    return project.folder / "data/08_reporting"


def test_all_judges_answer_for_the_same_cells_of_test_people(project, judged):
    predictions = pd.read_parquet(project.folder / "data/07_model_output/generative_predictions.parquet")
    assert predictions["classifier"].value_counts().to_dict() == dict.fromkeys(JUDGES, 40)
    assert predictions.groupby("classifier")["label"].value_counts().eq(20).all()
    table = pd.read_parquet(project.folder / "data/03_primary/cell_table.parquet")
    assert set(table["split"].iloc[predictions["row"].unique()]) == {"test"}
    metrics = pd.read_csv(judged / "generative_metrics.csv")
    assert {"accuracy", "auc", "ece", "accuracy less YOLOv8's"} <= set(metrics["metric"])
    assert (metrics["low"] <= metrics["value"]).all()
    assert (metrics["value"] <= metrics["high"]).all()


def test_the_cost_and_the_rule_are_stated(judged):
    summary = json.loads((judged / "generative_summary.json").read_text())
    spent = summary["cost"]["evaluations"]
    assert 2 <= spent["mean"] <= spent["without_elimination"] <= 6
    assert all(seconds > 0 for seconds in summary["cost"]["seconds_per_cell"].values())
    assert len(summary["rule"]["plan"]) * 2 == spent["without_elimination"]
    assert set(summary["rule"]["plan"]) <= set(summary["rule"]["timesteps"])


def test_anomalies_and_shifts_are_measured_and_drawn(judged):
    anomalies = pd.read_csv(judged / "generative_anomalies.csv")
    assert "phantom cells" not in set(anomalies["kind"])  # these are phantom cells
    assert anomalies["kind"].nunique() == 7
    shift = pd.read_csv(judged / "generative_shift.csv")
    assert shift.groupby("change")["amount"].unique().map(list).to_dict() == {
        "blur": [0.0, 40.0],
        "hue": [0.0, 0.1],
        "saturation": [0.5, 1.0],
    }
    assert shift[shift["amount"] == 0].groupby("classifier")["accuracy"].nunique().eq(1).all()
    for name in ("generative", "generative_maps", "generative_anomalies", "generative_shift"):
        assert (judged / f"figure_{name}.png").stat().st_size > 10_000


def test_it_says_the_same_again(project, judged):
    before = {name: (judged / f"generative_{name}.csv").read_text() for name in ("metrics", "anomalies")}
    asked = ("--to-outputs", ",".join(f"generative_{name}" for name in before))
    project.succeeds(*RUN, *asked, "--params", "generative.batch_size=7")
    for name in ("metrics", "anomalies"):
        again = pd.read_csv(judged / f"generative_{name}.csv")
        first = pd.read_csv(StringIO(before[name]))
        pd.testing.assert_frame_equal(first, again, rtol=1e-2)


def test_both_are_trained_on_few_people_when_asked(project, judged):
    project.succeeds("run", "--pipeline", "generative_low_data")
    table = pd.read_csv(judged / "generative_low_data.csv")
    assert set(table["classifier"]) == {"diffusion model", "YOLOv8"}
    assert (table["share"] == 0.5).all()
    assert table["people"].nunique() == 1
    trained = sorted((project.folder / "data/02_intermediate/generative").rglob("*.safetensors"))
    before = [path.stat().st_mtime_ns for path in trained]
    project.succeeds("run", "--pipeline", "generative_low_data")  # trains nothing anew
    assert trained
    assert [path.stat().st_mtime_ns for path in trained] == before
    pd.testing.assert_frame_equal(pd.read_csv(judged / "generative_low_data.csv"), table)


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("generative.lookz=3", "unknown 'lookz'; known are cells, validation_cells"),
        ("generative.give_up=0.7", "less than 0.5"),
        ("validation.comparison.positive_class=Malaria", "positive_class is 'Malaria', the classes are"),
        ("generative.device=cuda", "device 'cuda' is not available here"),
    ],
)
def test_a_bad_parameter_is_named(project, judged, parameter, said):
    message = project.fails(*RUN, "--params", parameter)
    assert said in message
    assert "❱" not in message


def test_a_model_whose_training_people_now_test_is_refused(project, judged):
    before = (judged / "generative_metrics.csv").read_text()
    project.succeeds("run", "--pipeline", "data_processing", "--params", "data_processing.split.seed=8")
    message = project.fails(*RUN)
    assert "trained on other cells than the training cells of cells and cell_table, among them" in message
    assert "❱" not in message
    assert (judged / "generative_metrics.csv").read_text() == before
