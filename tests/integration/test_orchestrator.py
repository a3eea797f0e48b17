"""The study as an Airflow DAG: written by kedro-airflow, imported, and run once."""

import json
import subprocess
import sys

import mlflow
import pytest

from ..projects import SCRIPTS, make_project

pytestmark = pytest.mark.integration

DAG = "malaria-diffusion"
READ_DAG = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
json.dump({task.task_id: sorted(task.downstream_task_ids) for task in bag.dags[sys.argv[2]].tasks}, sys.stdout)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the DAG and Airflow's own folder in it."""
    project = make_project(tmp_path_factory.mktemp("orchestrated"))
    project.succeeds("airflow", "create", "--group-by", "namespace")
    airflow(project, SCRIPTS / "airflow", "db", "migrate")
    return project


def airflow(project, *command):
    environment = project.environment | {
        "AIRFLOW_HOME": str(project.folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project.folder / "airflow_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    result = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    return result.stdout


def test_the_dag_is_the_study_in_its_order(project):
    printed = airflow(project, sys.executable, "-c", READ_DAG, project.folder / "airflow_dags", DAG)
    assert json.loads(printed.splitlines()[-1]) == {
        "data-processing": ["diffusion", "validation"],
        "diffusion": ["validation"],
        "validation": [],
    }


def test_a_run_of_the_dag_is_a_run_of_the_study_with_one_mlflow_run_a_task(project):
    airflow(project, SCRIPTS / "airflow", "dags", "test", DAG)
    assert "</html>" in (project.folder / "data/08_reporting/report.html").read_text()

    mlflow.set_tracking_uri(f"sqlite:///{project.folder}/mlflow.db")
    runs = mlflow.search_runs(
        experiment_names=["malaria_diffusion"], filter_string="tags.pipeline LIKE '%'", order_by=["start_time"]
    )
    named = [name.partition(")")[0] for name in runs["tags.mlflow.runName"]]
    assert named == ["study (data_processing", "study (diffusion", "study (validation"]
    assert set(runs["status"]) == {"FINISHED"}
