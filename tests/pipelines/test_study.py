"""The commands of the README, on a tiny study, in the order of a user who gets it wrong first."""

import json
import os
import re
import signal
import sqlite3
import time

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard

from malaria_diffusion.report import figure_names

from ..notebooks import pictures, run_notebook
from ..projects import ROOT, TINY, make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def processed(project):
    assert "run `kedro run --pipeline data_processing` first" in project.fails("run", "--pipeline", "diffusion")
    project.succeeds("run", "--pipeline", "data_processing")
    return project


@pytest.fixture(scope="module")
def trained(processed):
    assert "run `kedro run --pipeline diffusion` first" in processed.fails("run", "--pipeline", "validation")
    processed.succeeds("run", "--pipeline", "diffusion")
    return processed


@pytest.fixture(scope="module")
def validated(trained):
    trained.succeeds("run", "--pipeline", "validation")
    return trained


def read(project, path):
    return json.loads((project.folder / "data" / path).read_text())


def all_runs(project):
    mlflow.set_tracking_uri(f"sqlite:///{project.folder}/mlflow.db")
    return mlflow.search_runs(experiment_names=["malaria_diffusion"])


def runs(project):
    """Whole ones, of commands."""
    found = all_runs(project)
    parent = "tags.mlflow.parentRunId"
    return found[found[parent].isna()] if parent in found else found


def children(project, run_id):
    """Runs of single trainings, by name."""
    found = all_runs(project)
    return found[found["tags.mlflow.parentRunId"] == run_id].set_index("tags.mlflow.runName")


def leaves(values, prefix=""):
    """Leaves of nested parameters by the path that `--params` takes."""
    found = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_data_processing_writes_its_artefacts(processed):
    cells = np.load(processed.folder / "data/03_primary/cells.npy", mmap_mode="r")
    table = pd.read_parquet(processed.folder / "data/03_primary/cell_table.parquet")
    assert cells.shape == (240, 3, 16, 16)
    assert len(table) == 240
    people = table.groupby("split")["person"].agg(set)
    assert not (people["train"] & people["val"] or people["train"] & people["test"] or people["val"] & people["test"])
    both_smears = table[table["person"] == "P8"]
    assert both_smears["smear"].nunique() == 2
    assert both_smears["split"].nunique() == 1
    assert read(processed, "03_primary/dataset_summary.json")["images"] == "phantom cells"


def test_diffusion_stores_a_model_and_synthetic_cells_with_their_lineage(trained):
    table = pd.read_parquet(trained.folder / "data/07_model_output/synthetic_table.parquet")
    lineage = read(trained, "07_model_output/synthetic_lineage.json")
    cells = pd.read_parquet(trained.folder / "data/03_primary/cell_table.parquet")
    assert table["label"].value_counts().to_dict() == {"Parasitized": 20, "Uninfected": 20}
    assert set(table["model_identity"]) == {lineage["identity"]}
    assert set(table["cells_fingerprint"]) == {read(trained, "03_primary/dataset_summary.json")["fingerprint"]}
    assert set(table["training_people_hash"]) == {lineage["training_people_hash"]}
    assert set(lineage["training_people"]) == set(cells.loc[cells["split"] == "train", "person"])
    assert (trained.folder / "data/06_models/ddpm/unet/diffusion_pytorch_model.safetensors").exists()


def test_the_card_of_the_model_says_how_long_its_training_took_and_that_nothing_is_measured(trained):
    lineage = json.loads((trained.folder / "data/06_models/ddpm/lineage.json").read_text())
    assert 0 < lineage["training_seconds"] < 600
    assert set(lineage["software"]) == {"python", "malaria_diffusion", "torch", "diffusers"}
    card = ModelCard.load(trained.folder / "data/06_models/ddpm/README.md")
    assert f"torch {lineage['software']['torch']}" in card.text
    assert "Not measured." in card.text
    assert "not recorded" not in card.text


def test_the_validation_writes_a_card_with_what_it_measured_and_leaves_the_model_alone(validated):
    summary = read(validated, "08_reporting/summary.json")
    card = ModelCard.load(validated.folder / "data/08_reporting/model_card.md")
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert {"fidelity", "recognised", "descriptors"} <= found.keys()
    assert found == {name: summary["headlines"][name]["value"] for name in found}
    assert "Not measured." in (validated.folder / "data/06_models/ddpm/README.md").read_text()


def test_the_bound_of_the_test_people_s_cells_is_the_sum_of_its_terms(trained):
    bound = read(trained, "08_reporting/variational_bound.json")
    assert bound["images"] == 4
    assert len(bound["steps"]) == 3
    assert set(bound["variances"]) == {"beta", "beta_tilde"}
    for terms in bound["variances"].values():
        assert terms["total"] == pytest.approx(bound["prior"] + terms["middle"] + terms["reconstruction"])
        assert terms["standard_error"] > 0
        assert len(terms["curve"]) == 3
    schedule = bound["schedule"]
    assert (schedule["timesteps"], schedule["beta_first"]) == (10, pytest.approx(1e-4))
    assert schedule["log_snr_first"] > schedule["log_snr_last"]
    assert (trained.folder / "data/08_reporting/figure_8_bound.png").exists()
    found = runs(trained)
    diffusion = found[found["tags.pipeline"] == "diffusion"].iloc[-1]
    assert diffusion["metrics.bound/variances.beta.total"] == bound["variances"]["beta"]["total"]


def test_the_same_command_does_not_train_again(trained):
    (checkpoint,) = (trained.folder / "data/02_intermediate/ddpm").glob("*/checkpoint.safetensors")
    before = checkpoint.stat().st_mtime_ns
    assert "nothing to do" in trained.succeeds("run", "--pipeline", "diffusion", "--to-nodes", "diffusion.train_ddpm")
    assert checkpoint.stat().st_mtime_ns == before


def test_another_identity_goes_to_its_own_folder_and_a_longer_one_continues(trained):
    folders = trained.folder / "data/02_intermediate/ddpm"
    before = set(folders.iterdir())
    arguments = ("run", "--pipeline", "diffusion", "--to-nodes", "diffusion.train_ddpm", "--params")
    assert "has 2 epochs behind it: going on to 3" in trained.succeeds(*arguments, "diffusion.training.epochs=3")
    assert set(folders.iterdir()) == before
    assert "never shortened" in trained.fails(*arguments, "diffusion.training.epochs=1")
    trained.succeeds(*arguments, "diffusion.training.seed=1")
    assert len(set(folders.iterdir()) - before) == 1
    name = "diffusion (train_ddpm) on phantom cells, 2 epochs, training.seed=1"
    assert runs(trained)["tags.mlflow.runName"].iloc[0] == name


def test_the_report_stands_alone_and_says_phantom(validated):
    report = (validated.folder / "data/08_reporting/report.html").read_text()
    assert "These are phantom cells" in report
    assert report.count("data:image/png;base64,") == len(figure_names())
    assert 'src="http' not in report
    assert set(re.findall('href="(.)', report)) == {"#"}
    assert "kedro run --pipeline folds" in report  # what is not there yet is said
    for figure in range(9):
        assert len(list((validated.folder / "data/08_reporting").glob(f"figure_{figure}_*.png"))) == 1


def test_what_is_compared_is_unseen_and_balanced(validated):
    cells = pd.read_parquet(validated.folder / "data/03_primary/cell_table.parquet")
    predictions = pd.read_parquet(validated.folder / "data/07_model_output/predictions.parquet")
    for source, split in (("real", "test"), ("val", "val")):
        compared = predictions[(predictions["source"] == source) & predictions["compared"]]
        assert set(cells.loc[compared["row"], "split"]) == {split}
        assert (cells.loc[compared["row"], "label"].to_numpy() == compared["label"].to_numpy()).all()
        assert compared["label"].value_counts().nunique() == 1
        assert compared["label"].nunique() == 2
    unseen = predictions[predictions["source"] == "real"]
    assert set(unseen["row"]) == set(cells.index[cells["split"] == "test"])


def test_the_summary_has_every_headline_number(validated):
    summary = read(validated, "08_reporting/summary.json")
    cells = pd.read_parquet(validated.folder / "data/03_primary/cell_table.parquet")
    smaller = cells.loc[cells["split"] == "test", "label"].value_counts().min()
    assert summary["n"] == {"real": 2 * min(20, smaller), "synthetic": 2 * min(20, smaller)}
    assert set(summary["classification"]["unseen"]) == {"accuracy", "sensitivity", "specificity", "f1", "auc", "ece"}
    assert summary["dataset"]["split_strategy"] == "person"
    assert summary["code_version"]
    assert summary["distribution_tests"]["grey/all"]["verdict"]


def test_mlflow_holds_parameters_curves_metrics_and_artefacts(validated):
    found = runs(validated)
    validation = found[found["tags.pipeline"] == "validation"].iloc[0]
    summary = read(validated, "08_reporting/summary.json")
    assert validation["metrics.headlines/accuracy.value"] == summary["classification"]["unseen"]["accuracy"]["value"]
    assert validation["params.validation.classifier.epochs"] == "2"
    assert validation["tags.code_version"]
    client = mlflow.MlflowClient()
    assert {"report.html", "summary.json", "model_card.md", "figure_4_confusion.png", "environment.txt"} <= {
        artifact.path for artifact in client.list_artifacts(validation["run_id"])
    }
    diffusion = found[found["tags.pipeline"] == "diffusion"].iloc[0]  # the last: its history is in the catalog
    assert client.list_artifacts(diffusion["run_id"], "ddpm_samples")
    for run, model, column, history in (
        (diffusion, "ddpm", "loss", "training_history"),
        (validation, "classifier", "val_accuracy", "yolo_history"),
    ):
        logged = [(point.step, point.value) for point in client.get_metric_history(run["run_id"], f"{model}/{column}")]
        table = pd.read_csv(validated.folder / f"data/06_models/{history}.csv").dropna(subset=column)
        assert logged == [(seen, pytest.approx(value)) for seen, value in table[["images_seen", column]].to_numpy()]
        assert len(logged) > 1


@pytest.fixture
def finished(validated):
    """The first finished run of each pipeline."""
    found = runs(validated)
    found = found[found["status"] == "FINISHED"]
    return {
        name: found[found["tags.pipeline"] == name].iloc[-1] for name in ("data_processing", "diffusion", "validation")
    }


def test_every_run_says_what_it_is(validated, finished):
    summary = read(validated, "08_reporting/summary.json")
    for pipeline, run in finished.items():
        epochs = ", 2 epochs" if pipeline == "diffusion" else ""
        assert run["tags.mlflow.runName"] == f"{pipeline} on phantom cells{epochs}"
        assert run["tags.environment"] == "local"
        assert run["tags.images"] == "phantom cells"
        assert run["tags.split"] == "person"
        assert run["tags.data_fingerprint"] == summary["dataset"]["fingerprint"]
        assert run["tags.code_version"]
        assert f"--pipeline {pipeline}" in run["tags.kedro_command"]
    assert finished["validation"]["tags.training_identity"] == summary["ddpm"]["identity"]
    assert finished["diffusion"]["tags.training_identity"] == summary["ddpm"]["identity"]
    assert finished["validation"]["tags.classifier_weights"] == "from scratch"


def test_the_cells_are_an_input_of_every_run_with_their_fingerprint(validated, finished):
    cells = pd.read_parquet(validated.folder / "data/03_primary/cell_table.parquet")
    fingerprint = read(validated, "03_primary/dataset_summary.json")["fingerprint"]
    for run in finished.values():
        inputs = mlflow.get_run(run["run_id"]).inputs.dataset_inputs
        logged = {item.tags[0].value: item.dataset for item in inputs}
        assert set(logged) == {"training", "validation", "testing"}
        for context, split in (("training", "train"), ("validation", "val"), ("testing", "test")):
            assert logged[context].digest == fingerprint
            assert json.loads(logged[context].profile)["cells"] == (cells["split"] == split).sum()
            assert "phantom_cells.zip" in logged[context].source


def test_the_python_of_the_how_to_finds_runs_and_models(finished, validated, monkeypatch):
    monkeypatch.chdir(validated.folder)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs/mlflow.md").read_text(), re.DOTALL):
        exec(block.replace("'study'", "'validation'"), names)
    assert np.isfinite(names["runs"]["metrics.headlines/accuracy.value"].iloc[-1])
    assert names["images"].shape == (2, 16, 16, 3)


def test_a_finished_model_is_registered_once(validated, finished):
    client = mlflow.MlflowClient()
    signatures = {}
    for name, pipeline in (("ddpm", "diffusion"), ("classifier", "validation")):
        registered = f"malaria_diffusion-{name}"
        assert finished[pipeline][f"tags.model.{name}"] == f"{registered}/1"
        versions = client.search_model_versions(f"name = '{registered}'")
        assert len({version.tags["sha256"] for version in versions}) == len(versions)
        first = client.get_model_version(registered, "1")
        assert first.run_id == finished[pipeline]["run_id"]
        assert first.tags["images"] == "phantom cells"
        loaded = mlflow.pyfunc.load_model(f"models:/{registered}/1")
        signatures[name] = loaded.metadata.signature
        assert loaded.metadata.saved_input_example_info
    assert signatures["ddpm"].inputs.input_names() == ["label", "count", "seed"]
    assert signatures["ddpm"].outputs.inputs[0].shape == (-1, 16, 16, 3)
    assert signatures["classifier"].inputs.inputs[0].shape == (-1, -1, -1, 3)
    assert signatures["classifier"].outputs.input_names() == ["Parasitized", "Uninfected"]


TABLES = [
    "acquisition_explained",
    "acquisition_kept",
    "association_differences",
    "closest_pairs",
    "descriptor_correlations",
    "descriptor_tests",
    "distribution_tests",
    "explanations",
    "constraint_metrics",
    "fidelity_metrics",
    "recognised",
    "unseen_people",
    "utility_metrics",
]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_rows_of_finite_numbers(validated, name):
    table = pd.read_csv(validated.folder / f"data/08_reporting/{name}.csv")
    assert len(table)
    too_few = {  # seeds or people for an interval, or for what people differ by; "any" has no limit
        "utility_metrics": ["low", "high", "gain_low", "gain_high"],
        "explanations": ["low", "high"],
        "descriptor_tests": ["rank_p", "rank_p_adjusted"],
        "acquisition_kept": ["margin"],
        "constraint_metrics": ["limit"],
    }
    table = table.drop(columns=too_few.get(name, []))
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert not table.drop(columns="name", errors="ignore").isna().any(axis=None)


def test_privacy_is_audited_or_it_is_said_why_not(validated):
    audit = read(validated, "08_reporting/privacy_audit.json")
    for part in ("novelty", "membership"):
        assert audit[part]["testable"] or "audit_fraction" in audit[part]["reason"]


def test_utility_alone_finds_its_classifiers_and_its_ddpm_finished(validated):
    table = validated.folder / "data/08_reporting/utility_metrics.csv"
    before = pd.read_csv(table)
    assert set(before["arm"]) == {
        "real cells",
        "augmentation",
        "data sharing",
        "synthetic cells alone",
        "as many real cells",
    }
    work = validated.folder / "data/02_intermediate/utility"
    files = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    validated.succeeds("run", "--pipeline", "validation", "--tags", "utility")
    pd.testing.assert_frame_equal(pd.read_csv(table), before)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == files


def test_every_classifier_of_utility_is_a_run_below_that_of_the_validation(validated, finished):
    parent = finished["validation"]
    below = children(validated, parent["run_id"])
    table = pd.read_csv(validated.folder / "data/08_reporting/utility_metrics.csv")
    assert len(below) == below.index.nunique() == len(table)  # one seed
    assert set(below["status"]) == {"FINISHED"}
    assert below["tags.pipeline"].isna().all()
    assert set(below["tags.part_of"]) == {"validation"}
    for tag in ("data_fingerprint", "training_identity", "code_version", "images"):
        assert set(below[f"tags.{tag}"]) == {parent[f"tags.{tag}"]}
    of_arm = {
        (run["params.arm"], float(run["params.share"]), int(run["params.steps"])): run for _, run in below.iterrows()
    }
    for row in table.itertuples():
        run = of_arm[row.arm, row.share, row.steps]
        assert run["metrics.utility/accuracy"] == pytest.approx(row.accuracy)
        assert run["metrics.utility/synthetic_cells"] == row.synthetic_cells


def test_the_gate_refuses_with_an_exit_code_and_passes_without(validated):
    message = validated.fails("run", "--pipeline", "gate")  # two epochs make no cells
    assert "the gate refuses this model: " in message
    assert "wanted at least -0.05" in message
    assert "Traceback" not in message
    table = pd.read_csv(validated.folder / "data/08_reporting/gate_table.csv")
    refused = runs(validated).iloc[0]
    assert (refused["status"], refused["tags.gate"]) == ("FAILED", "refused")
    assert refused["metrics.gate/passed"] == table["passed"].sum() < len(table) == refused["metrics.gate/rules"]
    assert {"gate_table.csv", "figure_gate.png"} <= {
        artifact.path for artifact in mlflow.MlflowClient().list_artifacts(refused["run_id"])
    }
    summary = read(validated, "08_reporting/summary.json")["headlines"]["recognised"]
    assert table.set_index("rule").loc["recognised", "found"] == pytest.approx(summary["low"])
    assert validated.kedro("run", "--pipeline", "gate").returncode == 1
    assert runs(validated)["run_id"].iloc[0] != refused["run_id"]  # a refusal is an answer, not a run to go on with
    lenient = ",".join(f"gate.rules.{rule}=null" for rule in table["rule"] if rule != "recognised")
    passing = f"{lenient},gate.rules.recognised.at_least=-2"
    assert "the gate is passed: 1 rules, 1 models" in validated.succeeds(
        "run", "--pipeline", "gate", "--params", passing
    )
    assert runs(validated).iloc[0]["tags.gate"] == "passed"


def test_the_gate_without_a_summary_names_what_makes_one_and_judges_others(validated):
    own = validated.folder / "data/08_reporting/summary.json"
    other = own.rename(own.with_name("other.json"))
    try:
        assert "run `kedro run --pipeline validation` first" in validated.fails("run", "--pipeline", "gate")
        places = f"gate.summaries.one={other},gate.summaries.two={other}"
        assert "the gate refuses 2 of 2 models: one: " in validated.fails(
            "run", "--pipeline", "gate", "--params", places
        )
    finally:
        other.rename(own)


def test_folds_judge_every_cell_once_and_are_not_trained_again(validated):
    validated.succeeds("run", "--pipeline", "folds")
    predictions = pd.read_parquet(validated.folder / "data/07_model_output/protocol_predictions.parquet")
    cells = pd.read_parquet(validated.folder / "data/03_primary/cell_table.parquet")
    folds = predictions[predictions["protocol"] == "folds by person"]
    assert sorted(folds["row"]) == list(range(len(cells)))
    assert folds.groupby("person")["fold"].nunique().max() == 1
    by_person = predictions[predictions["protocol"] == "split by person"]
    assert set(by_person["row"]) == set(cells.index[cells["split"] == "test"])
    # the same training as that of the validation, found finished
    main = pd.read_parquet(validated.folder / "data/07_model_output/predictions.parquet")
    unseen = main[main["source"] == "real"].set_index("row")["probability"]
    np.testing.assert_allclose(by_person.set_index("row")["probability"], unseen[by_person["row"]], atol=1e-6)
    metrics = pd.read_csv(validated.folder / "data/08_reporting/protocol_metrics.csv")
    assert set(metrics["protocol"]) == {"folds by person", "split by person", "split by cell"}
    assert set(metrics.loc[metrics["threshold"] == "one half", "metric"]) == {
        "accuracy",
        "sensitivity",
        "specificity",
        "f1",
        "auc",
        "ece",
    }
    assert ((metrics["low"] <= metrics["value"]) & (metrics["value"] <= metrics["high"])).mean() > 0.9
    explained = pd.read_csv(validated.folder / "data/08_reporting/errors_explained.csv")
    assert (explained["auc"].isna() == explained["reason"].notna()).all()
    assert (validated.folder / "data/08_reporting/figure_folds_errors.png").is_file()
    finished = {path: path.stat().st_mtime_ns for path in validated.folder.rglob("finished.json")}
    validated.succeeds("run", "--pipeline", "folds")
    again, first = (children(validated, run_id) for run_id in runs(validated)["run_id"].iloc[:2])
    assert set(first.index) == set(again.index)  # of trainings found finished, too
    for fold, part in folds.groupby("fold"):
        for below in (first, again):
            run = below.loc[f"folds by person, training {fold}"]
            assert (run["params.protocol"], run["params.fold"]) == ("folds by person", str(fold))
            assert run["metrics.accuracy/test"] == pytest.approx((part["label"] == part["predicted"]).mean())
            assert np.isfinite(run["metrics.classifier/val_accuracy"])
    assert {path: path.stat().st_mtime_ns for path in validated.folder.rglob("finished.json")} == finished
    validated.succeeds("run", "--pipeline", "validation", "--namespaces", "validation.report")
    report = (validated.folder / "data/08_reporting/report.html").read_text()
    assert "kedro run --pipeline folds" not in report
    assert "folds by person" in report


def test_the_notebook_walks_through_the_results(validated):
    assert pictures(run_notebook(validated.folder / "notebooks/results.ipynb")) >= 4


def test_sampling_needs_no_training_and_no_cells(validated):
    hidden = validated.folder / "data/03_primary"
    hidden.rename(hidden.with_name("hidden"))
    try:
        validated.succeeds(
            "run", "--pipeline", "diffusion", "--tags", "sample", "--params",
            "diffusion.sampling.count.Parasitized=3,diffusion.sampling.solver=ancestral,diffusion.sampling.evaluations=null",
        )  # fmt: skip
    finally:
        hidden.with_name("hidden").rename(hidden)
    run = runs(validated).iloc[0]  # the last in time
    assert run["tags.mlflow.runName"].startswith("diffusion (sample) on phantom cells, ")
    assert run["tags.training_identity"] == read(validated, "07_model_output/synthetic_lineage.json")["identity"]
    assert not mlflow.get_run(run["run_id"]).inputs.dataset_inputs  # no cell was read
    cells = np.load(validated.folder / "data/07_model_output/synthetic_cells.npy")
    table = pd.read_parquet(validated.folder / "data/07_model_output/synthetic_table.parquet")
    assert cells.shape == (3, 3, 16, 16)
    assert set(table["label"]) == {"Parasitized"}
    assert set(table["solver"]) == {"ancestral"}
    assert "'Uninfected'" in validated.fails("run", "--pipeline", "validation")
    message = validated.fails("run", "--pipeline", "validation", "--namespaces", "validation.report")
    assert "was made of other synthetic_cells than those at hand; make it again: `kedro run --pipeline val" in message


def test_a_model_that_knows_the_test_people_is_refused(validated):
    validated.succeeds("run", "--pipeline", "data_processing", "--params", "data_processing.split.seed=8")
    message = validated.fails("run", "--pipeline", "validation")
    assert "that now validate or test" in message
    assert "Traceback" not in message
    assert "kedro run --pipeline diffusion" in message
    assert "data_processing.split puts" in validated.fails("run", "--pipeline", "folds")  # by the seed of before


def test_a_training_that_was_finished_adds_no_version(validated):
    def versions():
        return {version.version for version in mlflow.MlflowClient().search_model_versions("name LIKE '%-ddpm'")}

    arguments = (
        "run",
        "--pipeline",
        "diffusion",
        "--to-nodes",
        "diffusion.export_ddpm",
        "--params",
        "diffusion.training.seed=3",
    )
    runs(validated)  # sets the tracking server
    before = versions()
    validated.succeeds(*arguments)
    (new,) = versions() - before
    validated.succeeds(*arguments)
    assert versions() == before | {new}
    assert set(runs(validated)["tags.model.ddpm"].iloc[:2]) == {f"malaria_diffusion-ddpm/{new}"}


def test_a_killed_run_continues_its_training_and_its_mlflow_run(validated):
    parameters = "diffusion.training.epochs=12,diffusion.training.seed=5,diffusion.training.quality_epochs=12"
    arguments = ("run", "--pipeline", "diffusion", "--to-nodes", "diffusion.train_ddpm", "--params", parameters)
    before = set(runs(validated)["run_id"])
    process = validated.start(*arguments)
    open_runs = validated.folder / "data/02_intermediate/open_mlflow_runs.json"
    folders = set((validated.folder / "data/02_intermediate/ddpm").iterdir())
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        new = set((validated.folder / "data/02_intermediate/ddpm").iterdir()) - folders
        if new and (new.pop() / "checkpoint.safetensors").exists():
            break
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (run_id,) = set(runs(validated)["run_id"]) - before
    assert run_id in json.loads(open_runs.read_text()).values()

    printed = validated.succeeds(*arguments)
    assert "going on to 12" in printed
    assert set(runs(validated)["run_id"]) - before == {run_id}
    assert run_id not in json.loads(open_runs.read_text()).values()
    history = mlflow.MlflowClient().get_metric_history(run_id, "ddpm/loss")
    steps = [point.step for point in history]
    assert len(steps) == len(set(steps))
    assert mlflow.get_run(run_id).info.status == "FINISHED"


def test_guidance_is_chosen_by_validation_cells_and_needs_something_to_go_away_from(validated):
    arguments = ("run", "--pipeline", "guidance")
    assert "set diffusion.sampling.guidance to" in validated.succeeds(*arguments)
    table = pd.read_csv(validated.folder / "data/08_reporting/guidance_scales.csv")
    assert table["chosen"].sum() == 1
    assert np.isfinite(table[["kernel_distance", "recall"]]).all(axis=None)
    to_export = ("run", "--pipeline", "diffusion", "--to-nodes", "diffusion.export_ddpm", "--params")
    always_told = "diffusion.training.label_dropout=0,diffusion.training.guide_epochs=null,diffusion.training.epochs=1"
    validated.succeeds(*to_export, f"{always_told},diffusion.sampling.guidance=1")
    assert "diffusion.training.label_dropout" in validated.fails(*arguments)


def test_one_command_runs_the_paper_s_split_by_cell_in_one_mlflow_run(validated):
    before = set(runs(validated)["run_id"])
    utility = TINY["validation"]["utility"] | {"shares": [1.0], "arms": ["data sharing"]}  # all were tried above
    fewer = TINY | {"validation": TINY["validation"] | {"utility": utility}}
    (validated.folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(fewer))
    validated.succeeds("run", "--params", "data_processing.split.strategy=cell")
    found = runs(validated)
    (run_id,) = set(found["run_id"]) - before
    run = mlflow.get_run(run_id)
    assert run.info.run_name == "study on phantom cells, 2 epochs, split.strategy=cell"
    assert (run.data.tags["pipeline"], run.data.tags["split"]) == ("study", "cell")
    asked = {}
    for name in ("data_processing", "diffusion", "validation"):
        asked |= leaves(yaml.safe_load((validated.folder / f"conf/base/parameters_{name}.yml").read_text()))
    asked |= leaves(fewer) | {"data_processing.split.strategy": "cell"}
    for key, value in asked.items():
        if not key.startswith(("guidance.", "generative.", "validation.folds.")):  # of other pipelines
            logged = run.data.params[key]
            assert logged == str(value) or float(logged) == value, key
    assert len(run.data.params) < 120
    assert len(run.data.metrics) < 200
    report = (validated.folder / "data/08_reporting/report.html").read_text()
    assert "People were not kept apart" in report
    assert "unseen people" not in report
    cells = pd.read_parquet(validated.folder / "data/03_primary/cell_table.parquet")
    assert (cells.groupby("person")["split"].nunique() > 1).any()


def test_synthetic_cells_of_another_size_are_refused(validated):
    size = "data_processing.packing.size=24"
    strategy = "data_processing.split.strategy=cell"
    validated.succeeds("run", "--pipeline", "data_processing", "--params", f"{size},{strategy}")
    message = validated.fails("run", "--pipeline", "validation", "--params", size)
    assert "trained on other cells" in message


def test_nothing_is_written_outside_data_and_mlflow(validated):
    found = {path.name for path in validated.folder.iterdir()}
    made = {"data", "mlflow.db", "mlflow.db.lock", "mlruns", "mlartifacts", ".viz"}
    given = {"pyproject.toml", "requirements.txt", "README.md", ".telemetry", "conf", "notebooks", "src"}
    assert found <= made | given
    with sqlite3.connect(validated.folder / "mlflow.db") as database:
        names = {name for (name,) in database.execute("select name from experiments")}
    assert names <= {"malaria_diffusion", "Default"}
