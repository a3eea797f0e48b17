"""The language of `--params`: what a user writes arrives as it was written."""

import copy
import shlex

import pytest
from click.testing import CliRunner

from malaria_diffusion import cli
from malaria_diffusion.cells.archive.export import _command
from malaria_diffusion.config import escaped, flat, parse_parameters
from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.pipeline_registry import register_pipelines

SAMPLING = {
    "seed": 0,
    "solver": "ddim",
    "evaluations": 4,
    "variance": "beta",
    "clipping": "static",
    "guidance": 1,
    "batch_size": 8,
    "precision": "auto",
    "device": "cpu",
}
NAMES = ["P. vivax", "a,b", "x=1", "v2.", ".hidden", "01", "2024_05", "[other]", "{}", "None"]


@pytest.mark.parametrize(
    "written", ["2024_05", "2024_05_12", "01", "1e3", "no", "None", "~/cells", "a: b", "C:\\x", "[a"]
)
def test_a_value_is_the_text_that_was_written(written):
    assert parse_parameters(f"raw_cells={written}, other.key=1") == {"raw_cells": written, "other": {"key": "1"}}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("null", None),
        ("", None),
        ('"null"', "null"),
        ("[]", []),
        (r"[1\, 2]", [1, 2]),
        (r"a\,b", "a,b"),
        ("x=y", "x=y"),
    ],
)
def test_null_lists_and_quotes_have_a_meaning(written, value):
    assert parse_parameters(f"key={written}") == {"key": value}


@pytest.mark.parametrize("text", ["key", "=1", "a=1,a=2", "a=1,a.b=2", "a.b=2,a=1"])
def test_what_is_no_pair_or_says_two_things_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a key and a value|has two values"):
        parse_parameters(text)


def test_kedro_run_takes_its_params_so_and_all_else_as_it_was(monkeypatch):
    given = []
    run = copy.copy(cli.run)
    monkeypatch.setattr(run, "callback", lambda **options: given.append(options))
    monkeypatch.setattr(cli, "pipelines", register_pipelines())
    arguments = ["--params", "raw_cells=2024_05", "--tags", "sample,utility"]
    assert CliRunner().invoke(run, arguments).exit_code == 0
    assert (given[0]["params"], given[0]["tags"]) == ({"raw_cells": "2024_05"}, ["sample", "utility"])
    refused = CliRunner().invoke(run, ["--params", "raw_cells"])
    assert refused.exit_code != 0
    assert "'raw_cells' is not a key and a value" in refused.output


@pytest.mark.parametrize("name", NAMES)
def test_a_class_of_any_name_can_be_asked_for(name):
    found = parse_parameters(f"count.{escaped(name)}=3,count.other=0")
    assert SamplingParameters(**SAMPLING, **found).count == {name: 3, "other": 0}


def test_dots_in_class_names_need_no_backslash():
    found = parse_parameters("count.P. vivax=3,count.P. falciparum=0")
    assert SamplingParameters(**SAMPLING, **found).count == {"P. vivax": 3, "P. falciparum": 0}


def test_the_command_of_a_manifest_asks_for_what_there_is():
    counts = {name: number for number, name in enumerate(NAMES)}
    *_, given = shlex.split(_command(counts, {"seed": 7, "solver": "ancestral", "evaluations": 10}))
    sampling = parse_parameters(given)["diffusion"]["sampling"]
    assert SamplingParameters(**SAMPLING | sampling).count == counts
    assert flat(sampling)["evaluations"] is None
