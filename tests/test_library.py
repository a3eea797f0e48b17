"""The front door: what docs/library.md shows works as it stands there."""

import re

import pandas as pd
import pytest

import malaria_diffusion as md
from malaria_diffusion.config import Parameters
from malaria_diffusion.questions.question import Step
from malaria_diffusion.study.validation import in_order

from .projects import ROOT
from .test_report import Page

EXAMPLES = re.findall(r"```py(?:thon)?\n(.*?)```", (ROOT / "docs/library.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """What the names of the small example stand for when it has been run, and where."""
    folder = tmp_path_factory.mktemp("library")
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(EXAMPLES[1], names)
    return folder, names


def test_the_example_makes_a_report_of_all_that_was_asked(example):
    folder, names = example
    page = Page((folder / "report.html").read_text())
    assert {"classifier", "recognised", "fidelity", "privacy", "explanations"} <= set(page.headings)
    assert "utility" not in page.headings
    assert "These are phantom cells." in page.text
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert isinstance(names["results"].results["fidelity_metrics"], pd.DataFrame)
    accuracy = names["results"].summary["headlines"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]


def test_asked_again_nothing_is_trained_again(example, monkeypatch):
    folder, names = example
    monkeypatch.chdir(folder)
    trained = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert trained
    lineage = names["model"].lineage
    again = md.train(names["cells"], "runs/small", lineage.training, lineage.process, lineage.network)
    assert again.lineage == lineage
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == trained


def test_what_does_not_belong_together_is_refused(example):
    _, names = example
    other = md.Cells(names["cells"].images, names["cells"].table, names["cells"].about | {"fingerprint": "another"})
    with pytest.raises(md.UserError, match="trained on other cells"):
        md.validate(names["model"], names["synthetic"], other, "nowhere")


def test_messages_do_not_tell_a_library_user_to_run_kedro(tmp_path):
    with pytest.raises(md.UserError) as refused:
        md.DiffusionModel.load(tmp_path)
    assert "no model here" in str(refused.value)
    assert "kedro" not in str(refused.value)


def test_the_long_example_differs_from_the_small_one_in_parameters_only():
    calls = [re.findall(r"md\.(pack|train|validate)|\.(generate|report)\(", example) for example in EXAMPLES]
    assert calls[0] == calls[1]


def test_all_parameters_have_defaults():
    for name in (name for name in md.__all__ if name.endswith("Parameters")):
        kind = getattr(md, name)
        assert issubclass(kind, Parameters)
        assert kind() == kind.model_validate({})


def test_two_steps_that_make_the_same_are_refused():
    with pytest.raises(ValueError, match="one is made by"):
        in_order([Step(print, (), "one"), Step(repr, (), ("two", "one"))])


def test_steps_come_after_what_they_take():
    def first(given):
        return given

    def second(made):
        return made

    def third(made, more):
        return made, more

    steps = [
        Step(third, ("one", "two"), ("three", "four")),
        Step(second, ("one",), "two"),
        Step(first, ("zero",), "one"),
    ]
    assert [step.name for step in in_order(steps)] == ["first", "second", "third"]
    last = Step(print, ("zero",), ())
    assert [step.name for step in in_order([*steps[1:], last])] == ["first", "second", "print"]
