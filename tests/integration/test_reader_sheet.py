"""The reader study in a browser: read by keyboard, broken off, resumed, downloaded and scored as answered."""

import json

import numpy as np
import pandas as pd
import pytest

from ..projects import TINY, make_project

pytestmark = pytest.mark.integration

STUDY = {"cells": 12, "practice": 2, "side": 128}
FOLDER = "data/08_reporting/reader_study"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("project"), TINY | {"reader_study": STUDY})
    project.succeeds("run", "--pipelines", "data_processing,diffusion")
    said = project.fails("run", "--pipeline", "reader_study", "--tags", "score")
    assert "reader_key is missing" in said
    assert "run `kedro run --pipeline reader_study` first" in said
    assert "nobody has answered yet" in project.succeeds("run", "--pipeline", "reader_study")
    return project


@pytest.fixture(scope="module")
def cells(project):
    """In the order of the sheet."""
    return json.loads((project.folder / FOLDER / "key.json").read_text())["cells"]


@pytest.fixture
def page(browser, project):
    """The sheet, opened as a file; whatever it asks of the network, or complains of, fails the test."""
    page = browser.new_context(accept_downloads=True).new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text))
    page.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
    page.goto((project.folder / FOLDER / "sheet.html").as_uri())
    yield page
    page.close()
    assert complaints == []


def begin(page, reader, practised=False):
    page.locator("#reader").fill(reader)
    page.keyboard.press("Enter")
    for number in range(0 if practised else 4):
        page.get_by_text(f"{number + 1} of 4: a real cell, ").wait_for()
        page.keyboard.press("Enter")


def stands_at(page, number):
    page.get_by_text(f"Cell {number + 1} of 24: real or synthetic?").wait_for()


def press(page, number, kind, label):
    stands_at(page, number)
    page.keyboard.press(kind[0])
    page.get_by_text(f"Cell {number + 1} of 24: {kind}, and which class?").wait_for()
    page.keyboard.press({"Parasitized": "1", "Uninfected": "2"}[label])


def download(page, project):
    with page.expect_download() as waiting:
        page.keyboard.press("d")
    place = project.folder / FOLDER / "answers" / waiting.value.suggested_filename
    waiting.value.save_as(place)
    return json.loads(place.read_text())


def scores(project):
    table = pd.read_csv(project.folder / "data/08_reporting/reader_scores.csv")
    return table.set_index(["reader", "measure", "group"])["value"]


def test_answers_by_keyboard_are_scored_as_they_were_given(page, project, cells):
    rng = np.random.default_rng(0)
    kinds, labels = rng.choice(["real", "synthetic"], 24), rng.choice(["Parasitized", "Uninfected"], 24)
    begin(page, "Dr. Who")
    for number in range(9):
        press(page, number, kinds[number], labels[number])
    # taken back: a kind; then a kind, a class and a kind
    page.keyboard.press("r")
    page.keyboard.press("u")
    stands_at(page, 9)
    page.keyboard.press("u")
    page.keyboard.press("u")
    press(page, 8, kinds[8], labels[8])
    stands_at(page, 9)
    page.keyboard.press("1")  # a class before its turn
    stands_at(page, 9)
    assert len(download(page, project)["answers"]) == 9

    page.reload()
    assert page.locator("#reader").input_value() == "Dr. Who"
    begin(page, "Dr. Who", practised=True)
    for number in range(9, 24):
        press(page, number, kinds[number], labels[number])
    page.get_by_text("All 24 cells are answered.").wait_for()
    page.keyboard.press("r")  # nothing is left to say
    found = download(page, project)
    assert [(one["id"], one["kind"], one["label"]) for one in found["answers"]] == [
        (cell["id"], kind, label) for cell, kind, label in zip(cells, kinds, labels, strict=True)
    ]
    assert all(0 < one["seconds"] < 60 for one in found["answers"])

    printed = project.succeeds("run", "--pipeline", "reader_study", "--tags", "score")
    assert "1 reader was right on" in " ".join(printed.split())
    right = np.array([cell["kind"] == kind for cell, kind in zip(cells, kinds, strict=True)])
    classified = np.array([cell["label"] == label for cell, label in zip(cells, labels, strict=True)])
    real = np.array([cell["kind"] == "real" for cell in cells])
    found = scores(project)["Dr. Who"]
    assert found["accuracy", "all"] == pytest.approx(right.mean())
    assert found["real called real", "all"] == pytest.approx(right[real].mean())
    assert found["synthetic called synthetic", "all"] == pytest.approx(right[~real].mean())
    assert found["class of synthetic cells", "all"] == pytest.approx(classified[~real].mean())
    assert (project.folder / "data/08_reporting/figure_readers.png").exists()


def test_another_reader_begins_anew_and_may_use_buttons_and_leave_early(page, project, cells):
    begin(page, "someone else")
    for number, cell in enumerate(cells[:6]):
        stands_at(page, number)
        page.get_by_role("button", name={"real": "Real R", "synthetic": "Synthetic S"}[cell["kind"]]).focus()
        page.keyboard.press("Enter")
        page.get_by_role("button", name=cell["label"]).click()
    stands_at(page, 6)
    assert len(download(page, project)["answers"]) == 6
    printed = project.succeeds("run", "--pipeline", "reader_study")  # makes the same sheet again
    assert "someone else has left 18 of 24 cells unanswered" in " ".join(printed.split())
    assert scores(project)["someone else", "accuracy", "all"] == 1


def test_a_key_that_readers_may_have_is_not_written_over(project):
    key, sheet = (project.folder / FOLDER / name for name in ("key.json", "sheet.html"))
    before = key.read_bytes(), sheet.read_bytes()
    said = project.fails("run", "--pipeline", "reader_study", "--params", "reader_study.margin=0.2")
    assert "found the key of another sheet, which readers may have" in said
    assert "❱" not in said
    assert (key.read_bytes(), sheet.read_bytes()) == before


@pytest.mark.parametrize("parameter", ["reader_study.cells=400", "reader_study.margin=0.7", "reader_study.cell=4"])
def test_what_cannot_be_is_said_in_words(project, parameter):
    said = project.fails("run", "--pipeline", "reader_study", "--params", parameter)
    assert "reader_study" in said
    assert "❱" not in said
