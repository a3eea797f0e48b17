"""A question is one folder: graph, summary and report find it there."""

from typing import ClassVar

import numpy as np
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog

from malaria_diffusion import questions
from malaria_diffusion.pipelines import validation
from malaria_diffusion.questions.question import Question
from malaria_diffusion.report.contents import definitions, headlines, sections
from malaria_diffusion.settings import CONFIG_LOADER_ARGS

from ..projects import ROOT
from ..test_report import Page, made, rendered

QUESTION = '''
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from malaria_diffusion.questions.question import Claim, Definition, Judged, Question, Step, Verdict


def measure_brightness(comparison) -> pd.DataFrame:
    """Mean level of each side."""
    means = {side: cells.pixels.mean() for side, cells in comparison.sides.items()}
    return pd.DataFrame([means]).assign(difference=means["synthetic"] - means["real"])


def draw_brightness(brightness_metrics: pd.DataFrame) -> Figure:
    """The levels as bars."""
    figure = Figure()
    figure.subplots().bar(list(brightness_metrics.columns), brightness_metrics.iloc[0])
    return figure


def headlines(results):
    row = results["brightness_metrics"].iloc[0]
    return {"brightness": {"what": "difference", "value": row["difference"], "low": -1, "high": 9, "rests_on": "all"}}


def claims(results, headlines):
    value = f"by {headlines['brightness']['value']:.1f}"
    return [Claim("Cells are as bright", "never said", value, Judged(Verdict.NOT_DECIDED, "no rule"))]


QUESTION = Question(
    name="brightness",
    asks="As bright?",
    folder=Path(__file__).parent,
    place=65,
    steps=(
        Step(measure_brightness, ("comparison",), "brightness_metrics"),
        Step(draw_brightness, ("brightness_metrics",), "figure_brightness"),
    ),
    results=("brightness_metrics",),
    figures=("figure_brightness",),
    definitions={"brightness": Definition("Brightness", "Mean of all levels.")},
    headlines=headlines,
    claims=claims,
)
'''
SECTION = """{% import "macros.html" as m with context %}
<h2 id="{{ question.name }}">{{ question.asks }}</h2>
<p>{{ m.term("brightness") }}:
{% for row in brightness_metrics %}{{ number(row.real) }}{% endfor %}, {{ elsewhere or "here" }}</p>
{{ m.figure("figure_brightness", "Levels.") }}
"""


@pytest.fixture
def ninth(tmp_path, monkeypatch):
    folder = tmp_path / "brightness"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""As bright?"""\n')
    (folder / "question.py").write_text(QUESTION)
    (folder / "section.html").write_text(SECTION)
    monkeypatch.setattr(questions, "__path__", [*questions.__path__, str(tmp_path)])


def found(comparison):
    """What the steps of the question make, run one after the other."""
    (question,) = [one for one in questions.questions() if one.name == "brightness"]
    data = {"comparison": comparison}
    for step in question.steps:
        data[step.makes] = step.run(*(data[name] for name in step.takes))
    return data


class Side:
    def __init__(self, level):
        self.pixels = np.full((2, 3, 4, 4), level)


class Sides:
    sides: ClassVar = {"real": Side(100), "floor": Side(101), "synthetic": Side(104)}


def test_a_question_in_a_new_folder_is_in_graph_summary_and_report(ninth):
    graph = validation.create_pipeline()
    names = {node.name for node in graph.nodes}
    assert {"validation.brightness.measure_brightness", "validation.brightness.draw_brightness"} <= names
    (report,) = [node for node in graph.nodes if node.name.endswith("write_report")]
    assert {"brightness_metrics", "figure_brightness"} <= set(report.inputs)
    results = made(brightness_metrics=found(Sides)["brightness_metrics"])
    page = Page(rendered(results))
    asked = [section.name for section in sections()]
    assert asked.index("descriptors") + 1 == asked.index("brightness") == asked.index("acquisition") - 1
    assert page.headings[2:-3] == asked
    assert "As bright? Brightness : 100, here Figure 13. Levels." in page.text
    assert "Cells are as bright never said by 4.0 not decided" in page.text
    assert definitions()["brightness"].text in page.text


def test_what_it_makes_is_kept_without_a_catalog_entry_of_its_own(ninth):
    config = OmegaConfigLoader(str(ROOT / "conf"), **CONFIG_LOADER_ARGS | {"default_run_env": "base"})
    catalog = DataCatalog.from_config(config["catalog"])
    for name in ("brightness_metrics", "figure_brightness"):
        assert name in catalog
    assert catalog["brightness_metrics"]._describe()["filepath"].name == "brightness_metrics.csv"


def test_questions_have_names_and_places_of_their_own():
    asked = sections()
    for values in ([one.name for one in asked], [one.place for one in asked], list(definitions())):
        assert len(values) == len(set(values))
    terms = [term for one in asked for term in one.definitions]
    assert len(terms) == len(set(terms))
    figures = [figure for one in asked for figure in one.figures]
    assert len(figures) == len(set(figures))


def test_what_is_asked_has_one_primary_endpoint_and_all_else_is_exploratory():
    asked = {section.name: section.primary for section in sections() if section.headlines is not Question.headlines}
    assert None not in asked.values()
    lines = headlines(made())
    assert [name for name, line in lines.items() if line["endpoint"] == "primary"] == list(asked.values())
    exploratory = [line["what"] for line in lines.values() if line["endpoint"] == "exploratory"]
    assert len(exploratory) == 5
    text = Page(rendered()).text
    assert all(f"Primary endpoint : {lines[name]['what']}. Everything else" in text for name in asked.values())
    assert not any(f"Primary endpoint : {what}" in text for what in exploratory)


def test_every_step_is_taken_from_what_others_make_or_the_study_gives():
    made_here = {name for one in sections() for step in one.steps for name in step.made}
    assert {name for one in questions.questions() for name in one.results} <= made_here
