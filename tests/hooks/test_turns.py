"""A turn ends with its run, whatever ends that, also where the process lives on as in a notebook."""

import pytest
from click import ClickException
from filelock import FileLock, Timeout
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from malaria_diffusion import settings
from malaria_diffusion.datasets.finished import FinishedPath, Workspace
from malaria_diffusion.hooks.turns import TurnHooks

PIPELINE = Pipeline([Node(lambda workspace: workspace, "workspace", "made", name="make")])


@pytest.mark.parametrize("end", [None, KeyboardInterrupt(), ClickException("refused by a hook that comes later")])
def test_the_next_one_begins_however_a_run_ends(end, tmp_path, monkeypatch):
    made, workspace = FinishedPath(filepath=str(tmp_path / "made")), Workspace(filepath=str(tmp_path))
    catalog = DataCatalog({"made": made, "workspace": workspace})
    lock = FileLock(tmp_path / "turns/made.lock")

    def run(session):
        TurnHooks().before_pipeline_run(PIPELINE, catalog)
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
        if end is not None:
            raise end
        return {"made": made}

    monkeypatch.setattr(KedroSession, "run", run)
    session = settings.SESSION_CLASS.__new__(settings.SESSION_CLASS)
    if end is None:
        assert session.run() == {"made": made}
    else:
        with pytest.raises(type(end)):
            session.run()
    with lock.acquire(timeout=0):
        pass
