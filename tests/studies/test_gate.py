"""The gate: what is judged, what is refused, and that nothing which was not measured passes."""

import copy
import json

import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from malaria_diffusion.errors import UserError
from malaria_diffusion.report import headlines
from malaria_diffusion.studies.gate.config import GateParameters, Rule
from malaria_diffusion.studies.gate.figure import gate_figure, side_by_side
from malaria_diffusion.studies.gate.judge import RefusedError, gate_table, refuse
from malaria_diffusion.studies.gate.summaries import read_summaries

from ..projects import ROOT
from ..test_report import made

SUMMARY = {
    "dataset": {"fingerprint": "abc", "split_strategy": "person", "split_seed": 0},
    "ddpm": {"identity": "one", "epochs": 3, "training": {"seed": 0, "batch_size": 16}, "sampling": {"seed": 0}},
    "classifier": {"parameters": {"seed": 0, "epochs": 8}},
    "n": {"real": 944, "synthetic": 944},
    "headlines": {
        "accuracy": {"what": "accuracy", "value": 0.96, "low": 0.93, "high": 0.98},
        "fidelity": {
            **{"what": "kernel distance", "value": 0.06, "low": -0.01, "high": 0.2},
            **{"floor": 0.01, "floor_low": -0.05, "floor_high": 0.1},
            **{"difference": 0.05, "difference_low": 0.01, "difference_high": 0.09},
        },
        "copies": {"what": "copies", "value": 0.004, "low": 0.001, "high": 0.011, "floor": 0.01},
        "utility": {"what": "gain", "value": 0.08, "low": None, "high": None, "floor": 0.0},
        "membership": {"what": "AUC of the attack", "reason": "too few people"},
    },
    "distribution_tests": {"grey/all": {"v": 0.1, "v_low": 0.05, "v_high": 0.14, "margin": 0.15, "p": float("nan")}},
    "classification": {"at": {"P. vivax": {"value": 0.9, "low": 0.8, "high": 0.95}}},
}


def judged(summary=SUMMARY, **rule):
    return gate_table({"this run": summary}, {"accuracy": Rule(**rule)}).iloc[0]


@pytest.mark.parametrize(
    ("rule", "found", "wanted", "passed"),
    [
        ({"at_least": 0.93}, 0.93, 0.93, True),  # the bound itself keeps to it
        ({"at_least": 0.931}, 0.93, 0.931, False),
        ({"at_least": 0.95, "judged": "value"}, 0.96, 0.95, True),
        ({"at_most": 0.97}, 0.98, 0.97, False),
        ({"number": "fidelity.difference", "at_most": 0.1}, 0.09, 0.1, True),
        ({"number": "fidelity.difference", "at_most": 0.1, "judged": "value"}, 0.05, 0.1, True),
        ({"number": "fidelity", "at_most": 0.2, "plus": "floor"}, 0.2, 0.15, False),  # its low end
        ({"number": "fidelity", "at_most": 0.05, "plus": "floor", "judged": "value"}, 0.06, 0.06, True),
        ({"number": "copies", "at_most": 1.5, "times": "floor"}, 0.011, 0.015, True),
        ({"number": "distribution_tests.grey/all.v", "at_most": 0, "plus": "margin"}, 0.14, 0.15, True),
        ({"number": "classification.at.P. vivax", "at_least": 0.8}, 0.8, 0.8, True),
        ({"number": "n.real", "at_least": 500, "judged": "value"}, 944, 500, True),
    ],
)
def test_what_is_judged_by_what(rule, found, wanted, passed):
    row = judged(**rule)
    assert (row["found"], row["wanted"], row["passed"], row["reason"]) == (found, pytest.approx(wanted), passed, "")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"number": "membership", "at_most": 1}, "was not measured (too few people)"),
        ({"number": "membership.low", "at_most": 1}, "was not measured (too few people)"),
        ({"number": "utility", "at_least": -1}, "has no interval to be judged by"),
        ({"number": "n.real", "at_least": 0}, "has no interval to be judged by"),
        ({"number": "distribution_tests.grey/all.p", "at_most": 2, "judged": "value"}, "was not measured"),
        ({"number": "copies", "at_most": 1, "plus": "flor"}, "held against 'flor', which was not measured"),
        ({"number": "fidelity", "at_most": 100, "times": "floor"}, "a multiple of 'floor', which is -0.05"),
        ({"number": "headlines", "at_most": 1}, "'headlines' is no number"),
    ],
)
def test_what_was_not_measured_does_not_pass_whatever_the_bound(rule, reason):
    row = judged(**rule)
    assert not row["passed"]
    assert reason in row["reason"]
    with pytest.raises(RefusedError, match=r"accuracy (was|has|is)"):
        refuse(pd.DataFrame([row]))


def test_a_wider_interval_never_passes_what_a_narrower_one_does_not():
    for bound in ({"at_least": 0.9}, {"at_most": 0.97}):
        verdicts = []
        for reach in (0.0, 0.02, 0.05, 0.1):
            summary = copy.deepcopy(SUMMARY)
            summary["headlines"]["accuracy"] |= {"value": 0.94, "low": 0.94 - reach, "high": 0.94 + reach}
            verdicts.append(bool(judged(summary, **bound)["passed"]))
        assert verdicts[0]
        assert verdicts == sorted(verdicts, reverse=True)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rules": {"accuracy": {"at_leest": 1}}}, "unknown 'at_leest'; known are number, at_most"),
        ({"rules": {"accuracy": {}}}, "one of at_most and at_least"),
        ({"rules": {"accuracy": {"at_most": 1, "at_least": 0}}}, "one of at_most and at_least"),
        ({"rules": {"accuracy": {"at_most": 1, "plus": "a", "times": "b"}}}, "one of plus and times"),
        ({"rules": {"accuracy": {"at_most": -1, "times": "b"}}}, "a bound of 0 or more with times"),
        ({"rules": {"accuracy": {"at_most": "nan"}}}, "finite"),
        ({"rules": {"accuracy": {"at_most": 1, "judged": "lucky"}}}, "'interval' or 'value'"),
        ({"rules": {"accuracy": None}}, "refuses nothing"),
        ({"rules": {"accuracy": {"at_most": 1}}, "summaries": []}, "one path at least"),
        ({"rules": {"accuracy": {"at_most": 1}}, "summary": "a"}, "unknown 'summary'"),
    ],
)
def test_rules_that_say_nothing_or_two_things_are_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        GateParameters(**values)


def test_a_rule_about_a_number_that_no_summary_knows_is_a_typo_and_one_that_some_know_is_not_kept():
    with pytest.raises(UserError, match=r"gate.rules.acuracy: 'acuracy' is in no summary; did you mean 'accuracy'\?"):
        gate_table({"a": SUMMARY}, {"acuracy": Rule(at_least=0)})
    older = copy.deepcopy(SUMMARY)
    del older["headlines"]["copies"]
    table = gate_table({"new": SUMMARY, "old": older}, {"copies": Rule(at_most=1)})
    assert table["passed"].tolist() == [True, False]
    assert table["reason"].tolist() == ["", "is not in this summary (no 'copies')"]


def with_seed(seed, accuracy, batch_size=16):
    summary = copy.deepcopy(SUMMARY)
    summary["ddpm"] |= {"identity": f"{seed} {batch_size}", "training": {"seed": seed, "batch_size": batch_size}}
    summary["headlines"]["accuracy"]["value"] = accuracy
    return summary


def test_seeds_of_the_same_settings_have_a_mean_and_a_spread_and_other_settings_have_their_own():
    summaries = {
        "a": with_seed(0, 0.90),
        "b": with_seed(1, 0.94),
        "again": with_seed(1, 0.94),
        "c": with_seed(0, 0.5, 8),
    }
    table = gate_table(summaries, {"accuracy": Rule(at_least=0.9)}).set_index("model")
    assert table["seeds"].to_dict() == {"a": 2, "b": 2, "again": 2, "c": 1}  # the same run twice is one seed
    assert table.loc["a", "mean"] == pytest.approx(0.92)
    assert table.loc["a", "sd"] == pytest.approx(0.02 * 2**0.5)
    assert pd.isna(table.loc["c", "sd"])
    (row,) = side_by_side(table.reset_index()).to_dict("records")
    assert row["seeds"] == "0.92 (sd 0.0283, 2 seeds)"
    assert row.keys() >= {"rule", "wanted", "a", "b", "again", "c"}


def test_the_figure_shows_every_rule_and_model():
    rules = {"accuracy": Rule(at_least=0.95), "copies": Rule(at_most=1), "membership": Rule(at_most=0.6)}
    figure = gate_figure(gate_table({"a": SUMMARY, "b": with_seed(1, 0.9)}, rules))
    texts = [cell.get_text().get_text() for cell in figure.axes[0].tables[0].get_celld().values()]
    assert texts.count("0.93: refused") == 2
    assert texts.count("0.011: passed") == 2
    assert texts.count("not judged: refused") == 2
    assert figure.axes[0].get_title() == "The gate: 2 of 2 refused"


def test_one_sentence_names_every_rule_that_is_broken_with_its_numbers():
    table = gate_table({"a": SUMMARY, "b": SUMMARY}, {"accuracy": Rule(at_least=0.95), "copies": Rule(at_most=1)})
    with pytest.raises(RefusedError) as raised:
        refuse(table)
    said = "accuracy is 0.93 (low end of its interval), wanted at least 0.95"
    assert str(raised.value).startswith(f"the gate refuses 2 of 2 models: a: {said}; b: {said} (")
    assert "copies" not in str(raised.value)
    refuse(table[table["rule"] == "copies"])


def write(folder, *parts, content=None):
    place = folder.joinpath(*parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(SUMMARY) if content is None else content)
    return str(place)


def test_files_are_named_by_what_tells_them_apart(tmp_path):
    places = [write(tmp_path, name, "data", "summary.json") for name in ("a", "b")]
    assert list(read_summaries(places)) == ["a", "b"]
    assert list(read_summaries(places[:1])) == ["summary.json"]
    assert list(read_summaries({"mine": places[0]})) == ["mine"]
    same = [write(tmp_path, "c", "one.json"), write(tmp_path, "c", "d", "one.json")]
    assert len(read_summaries(same)) == 2
    with pytest.raises(UserError, match="twice"):
        read_summaries([places[0], places[0]])


@pytest.mark.parametrize(
    ("content", "said"), [("{", "JSONDecodeError"), ("[1]", "lacks dataset, ddpm"), ('{"dataset": {}}', "lacks ddpm")]
)
def test_a_damaged_or_missing_file_is_named(tmp_path, content, said):
    place = write(tmp_path, "summary.json", content=content)
    with pytest.raises(UserError, match=said) as raised:
        read_summaries([place])
    assert str(raised.value).startswith(place)
    with pytest.raises(UserError, match=r"nothing.json: there is no summary here; give the path"):
        read_summaries({"a": str(tmp_path / "nothing.json")})


def test_the_rules_of_conf_base_are_about_headlines_that_there_are():
    lines = headlines(made())
    rules = GateParameters(**yaml.safe_load((ROOT / "conf/base/parameters_gate.yml").read_text())["gate"]).kept
    for name, rule in rules.items():
        line, _, number = (rule.number or name).partition(".")
        assert (number or "value") in lines[line]
