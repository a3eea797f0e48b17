"""The nodes of the reader study, and where its artefacts lie."""

import json
import shutil
import subprocess

import pytest
import yaml
from kedro.config import OmegaConfigLoader

from malaria_diffusion.pipeline_registry import register_pipelines
from malaria_diffusion.pipelines.reader_study.nodes import draw_readers, judge_readers, make_sheet
from malaria_diffusion.settings import CONFIG_LOADER_ARGS

from ..projects import ROOT
from ..studies.reader.toys import PARAMETERS, file_of, of_model, of_people

FOLDER = "data/08_reporting/reader_study"


def test_scores_are_made_where_somebody_has_answered_and_nothing_otherwise(tmp_path, caplog):
    key, sheet = make_sheet(of_people(6, 4), of_model(20), PARAMETERS)
    assert key.commitment in sheet
    with caplog.at_level("INFO", "malaria_diffusion"):
        assert (
            list(judge_readers(key, None)) == list(judge_readers(key, tmp_path)) == list(draw_readers(key, None)) == []
        )
        assert "nobody has answered yet" in caplog.text
        (tmp_path / "one.json").write_text(json.dumps(file_of(key, "one", [cell.kind for cell in key.cells][:20])))
        (scores,) = judge_readers(key, tmp_path)
    assert "one has left 4 of 24 cells unanswered" in caplog.text
    assert "told apart: 1 reader was right on 1.000" in caplog.text
    assert len(list(draw_readers(key, scores))) == 1
    assert list(draw_readers(key, scores.assign(sheet="another"))) == []


def test_what_shows_real_cells_or_is_secret_is_not_of_git_s_and_not_of_the_default_run():
    files = [f"{FOLDER}/{name}" for name in ("sheet.html", "key.json", "answers/one.json")]
    ignored = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert ignored == files or not (ROOT / ".git").exists()
    flows = register_pipelines()
    assert not set(flows["reader_study"].nodes) & set(flows["__default__"].nodes)


@pytest.mark.parametrize(("env", "folder"), [("local", FOLDER), ("nlm", "data/08_reporting/nlm/reader_study")])
def test_its_files_lie_together_whatever_parameters_an_environment_holds(tmp_path, env, folder):
    conf = shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    given = conf / env / "parameters.yml"  # which is among the globals too, that the catalog takes paths from
    given.parent.mkdir(exist_ok=True)
    before = yaml.safe_load(given.read_text()) if given.exists() else {}
    given.write_text(yaml.safe_dump(before | {"reader_study": {"seed": 5}}))
    catalog = OmegaConfigLoader(str(conf), env=env, **CONFIG_LOADER_ARGS)["catalog"]
    places = [catalog["reader_key"]["filepath"], catalog["reader_sheet"]["filepath"]]
    places.append(catalog["reader_answers"]["dataset"]["filepath"])
    assert places == [f"{folder}/{name}" for name in ("key.json", "sheet.html", "answers")]
