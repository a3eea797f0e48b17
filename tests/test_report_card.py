"""The card with a validation's numbers: those of the summary, each with its interval and floor, and no others."""

import math

import pytest
from huggingface_hub import ModelCard

from malaria_diffusion.cells.lineage import LineageError
from malaria_diffusion.diffusion.model import DiffusionModel
from malaria_diffusion.questions.text import interval
from malaria_diffusion.report.card import evaluated_card

from .projects import ROOT
from .test_report import audit, made, summary_of

ABOUT_THE_MODEL = [
    "bound",
    "recognised",
    "intensities",
    "descriptors",
    "associations",
    "acquisition",
    "constraint",
    "fidelity",
    "diversity",
    "novelty",
    "copies",
    "membership",
    "utility",
]


@pytest.fixture(scope="module")
def lineage():
    shipped = DiffusionModel.load(ROOT / "models/nlm-64").lineage
    return shipped.model_copy(update={"identity": summary_of(made())["ddpm"]["identity"]})


def test_every_number_is_the_summary_s(lineage):
    summary = summary_of(made())
    card = ModelCard(evaluated_card(lineage, 1, summary))
    assert [result.metric_type for result in card.data.eval_results] == ABOUT_THE_MODEL
    for result in card.data.eval_results:
        line = summary["headlines"][result.metric_type]
        assert (result.metric_value, result.metric_name) == (line["value"], line["what"])
        for name in ("low", "high", "floor"):
            assert result.metric_args.get(name) == line.get(name)
        assert result.dataset_revision == summary["dataset"]["fingerprint"]
        assert f"| {interval(line['value'], line['low'], line['high'])} |" in card.text
    assert "Not measured." not in card.text


def test_what_could_not_be_measured_is_no_result(lineage):
    summary = summary_of(made(privacy_audit=audit(testable=False)))
    summary["headlines"]["bound"]["value"] = math.nan
    card = ModelCard(evaluated_card(lineage, 1, summary))
    found = {result.metric_type for result in card.data.eval_results}
    assert found == set(ABOUT_THE_MODEL) - {"novelty", "copies", "membership", "bound"}
    assert card.text.count("not measured") == 3
    assert "3 cells are too few" in card.text


def test_a_summary_of_another_model_is_refused(lineage):
    with pytest.raises(LineageError, match=r"summary is of training 5dd4af9e, epoch \d+, but ddpm is abc"):
        evaluated_card(lineage.model_copy(update={"identity": "abc"}), 1, summary_of(made()))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("/home/me/cells.zip", "not stated"),
        ("https://here.org/cells.zip", "https://here.org/cells.zip"),
        ("https://me:secret@here.org:8080/cells.zip?key=secret", "https://here.org:8080/cells.zip"),
    ],
)
def test_the_source_is_told_if_it_is_everybody_s_and_no_more_of_it(lineage, source, said):
    summary = summary_of(made())
    summary["dataset"] = summary["dataset"] | {"source": source}
    text = evaluated_card(lineage, 1, summary)
    assert f"| source | {said} |" in text
    assert "/home/me" not in text
    assert "secret" not in text
