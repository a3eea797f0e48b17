"""Child runs: below their parent, with its tags, once however often they are asked for, and no run without a parent."""

import mlflow
import pandas as pd
import pytest

from malaria_diffusion.tracking.log import MlflowObserver, children


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Made once, as that takes seconds."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db")
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture
def client(database, request):
    """With an experiment of the test's own."""
    mlflow.set_experiment(request.node.name)
    yield mlflow.MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()


def below(client, parent):
    runs = client.search_runs([parent.info.experiment_id])
    return {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}


def test_without_an_active_run_nothing_is_made(client, request):
    with MlflowObserver().child_run("one", {}) as child:
        child.log_metrics({"part": {"a": 1}})
        child.log_curves(pd.DataFrame({"images_seen": [1], "loss": [2.0]}), "part")
        child.log_json({}, "a.json")
    assert not client.search_runs([mlflow.get_experiment_by_name(request.node.name).experiment_id])


def test_a_child_has_its_parent_s_tags_and_its_own_numbers(client):
    with mlflow.start_run(run_name="study") as parent:
        mlflow.set_tags({"data_fingerprint": "abc", "pipeline": "study", "code_version": "1"})
        with MlflowObserver().child_run("trial, 50 %: 'a'", {"arm": "real cells", "share": 0.5}) as child:
            child.log_metrics({"utility": {"accuracy": 0.9}})
            MlflowObserver().log_metrics({"utility": {"of all": 0.8}})  # the parent stays the active run
            assert mlflow.active_run().info.run_id == parent.info.run_id
            assert [run.info.status for run in below(client, parent).values()] == ["RUNNING"]
    (found,) = below(client, parent).values()
    assert found.info.run_name == "trial, 50 %: 'a'"
    assert found.info.status == "FINISHED"
    assert found.data.params == {"arm": "real cells", "share": "0.5"}
    assert found.data.metrics == {"utility/accuracy": 0.9}
    tags = found.data.tags
    assert (tags["data_fingerprint"], tags["code_version"], tags["part_of"]) == ("abc", "1", "study")
    assert tags["mlflow.user"] == client.get_run(parent.info.run_id).data.tags["mlflow.user"]
    assert client.get_run(parent.info.run_id).data.metrics == {"utility/of all": 0.8}
    whole = client.search_runs([parent.info.experiment_id], "tags.pipeline = 'study'")
    assert [run.info.run_id for run in whole] == [parent.info.run_id]


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_child_that_fails_or_is_stopped_says_so_and_is_gone_on_with(client, error, status):
    curve = pd.DataFrame({"images_seen": [1, 2, 3], "loss": [3.0, 2.0, 1.0]})
    with mlflow.start_run() as parent:
        for name in ("other", "one"):
            with pytest.raises(error), MlflowObserver().child_run(name, {"fold": 1}) as child:
                child.log_curves(curve[:2], "training")
                raise error
            stopped = below(client, parent)[name]
            assert stopped.info.status == status
    # as a run that is given again
    with mlflow.start_run(run_id=parent.info.run_id), MlflowObserver().child_run("one", {"fold": 1}) as again:
        again.log_curves(curve, "training")
    found = below(client, parent)
    assert found["one"].info.run_id == stopped.info.run_id
    assert {name: run.info.status for name, run in found.items()} == {"one": "FINISHED", "other": status}
    history = client.get_metric_history(stopped.info.run_id, "training/loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_parents_have_children_of_their_own(client):
    for _ in range(2):
        with mlflow.start_run() as parent:
            with MlflowObserver().child_run("one", {}):
                pass
            (child,) = below(client, parent).values()
            assert [run.info.run_id for run in children(parent)] == [child.info.run_id]


def test_the_first_error_is_told_where_a_child_cannot_be_closed(client, monkeypatch, caplog):
    def broken(*_, **__):
        raise OSError("no space")

    with mlflow.start_run():
        with pytest.raises(ValueError, match="first"), MlflowObserver().child_run("one", {}):
            monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", broken)
            raise ValueError("first")
        monkeypatch.undo()
    assert "no space" in caplog.text
