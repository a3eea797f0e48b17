"""The nodes of the reader study, and where its artefacts lie."""

import json
import subprocess

from malaria_diffusion.pipeline_registry import register_pipelines
from malaria_diffusion.pipelines.reader_study.nodes import draw_readers, judge_readers, make_sheet

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
