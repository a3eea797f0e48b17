"""kedro viz in a browser, served and as the static site it builds: boxes, layers, previews, the status of the run."""

import base64
import contextlib
import functools
import http.server
import threading

import pandas as pd
import pytest

from ..projects import LAYERS, make_project
from .servers import serving

pytestmark = pytest.mark.integration

BOXES = '.pipeline-node[data-node-type="modularPipeline"]'


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("project"))
    project.succeeds("run", "--pipelines", "data_processing,diffusion")
    return project


@contextlib.contextmanager
def built(project):
    """What `kedro viz build` makes, behind a web server that knows nothing of Kedro."""
    project.succeeds("viz", "build", "--include-previews")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=project.folder / "build")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module", params=["served", "built"])
def site(request, project):
    served = serving(project, "viz", "run", "--no-browser", path="/api/main")
    with served if request.param == "served" else built(project) as address:
        yield address


@pytest.fixture
def page(browser, site):
    """The graph, opened; what the site itself complains of fails the test."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console", lambda said: complaints.append(f"{said.text} {said.location}") if is_complaint(said, site) else None
    )
    page.goto(site)
    page.locator(BOXES).first.wait_for()
    yield page
    page.close()
    assert complaints == []


def is_complaint(said, site):
    """Fonts come from elsewhere, or do not; any static site of kedro viz misses its own /api/metadata, and says so."""
    address = said.location["url"]
    return said.type == "error" and address.startswith(site) and "metadata" not in said.text + address


def open_node(page, name):
    # not a click of the mouse: kedro viz lays hints and toolbars over its graph
    page.locator(f'.pipeline-node[data-node-fullname="{name}"]').dispatch_event("click")
    return page.locator(".pipeline-metadata", has_text=name)


def test_the_graph_opens_as_a_box_for_each_pipeline_in_the_layers_of_the_study(page):
    boxes = page.locator(BOXES).evaluate_all("boxes => boxes.map(box => box.dataset.nodeFullname)")
    assert boxes == ["data_processing", "diffusion", "validation"]
    layers = page.locator(".pipeline-layer-name").all_text_contents()
    assert layers == [layer for layer in LAYERS if layer != "classifier"]  # inside the box of the validation


def test_a_figure_shows_itself(page, project):
    image = open_node(page, "figure_0_dataset").locator("img")
    png = (project.folder / "data/08_reporting/figure_0_dataset.png").read_bytes()
    assert base64.b64decode(image.get_attribute("src").removeprefix("data:image/png;base64,")) == png
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_cells_show_themselves(page):
    image = open_node(page, "synthetic_cells").locator("img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 12 * 16


def test_a_table_shows_its_first_rows(page, project):
    page.goto(page.url.partition("?")[0] + "?expandAllPipelines=true")  # inside the box of the diffusion model
    table = open_node(page, "training_history").locator("table")
    history = pd.read_csv(project.folder / "data/06_models/training_history.csv", dtype=str)
    table.locator("td").first.wait_for()
    assert table.locator("th").all_text_contents() == list(history.columns)
    assert table.locator("tr td:first-child").all_text_contents() == list(history.iloc[:20, 0])


def test_numbers_show_themselves(page):
    open_node(page, "variational_bound").get_by_text("reconstruction").first.wait_for()


def test_what_is_not_made_yet_is_shown_without_a_preview(page):
    details = open_node(page, "protocol_metrics")
    details.get_by_text("protocol_metrics.csv").wait_for()
    assert details.locator("table").count() == 0


def test_the_last_run_is_shown(page):
    page.get_by_role("button", name="View your workflow").dispatch_event("click")
    page.get_by_text("Run execution completed successfully").wait_for()
    node = page.locator('.pipeline-node[data-node-fullname="train_ddpm"]')
    assert "Status:success" in node.text_content()
