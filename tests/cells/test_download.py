"""Fetching: once, checked, and whole or not at all."""

import hashlib
import io
import socket
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import fsspec
import pytest

from malaria_diffusion.cells.download import CHUNK_BYTES, Published, fetch, is_url
from malaria_diffusion.cells.errors import CellsError
from malaria_diffusion.cells.sources import Entry, open_source

URL = "memory://publisher/cells.zip"


def archive(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("A/1.png", content)
    return file.getvalue()


CONTENT = archive(bytes(range(256)) * (CHUNK_BYTES // 100))
PAGE = b"<html><title>Sign in</title></html>"
HONEST = Published(size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
FILES = {"A/1.png": b"one", "B/2.png": b"two", "B/deep/3.png": b"three"}


@pytest.fixture
def remote():
    """A remote place that holds nothing yet."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


@pytest.mark.parametrize(
    ("location", "remote"),
    [(URL, True), ("https://a.org/b.zip", True), ("data/cells.zip", False), ("/a/b", False), ("C:\\cells", False)],
)
def test_urls_are_told_from_paths(location, remote):
    assert is_url(location) == remote


@pytest.mark.parametrize("published", [None, HONEST])
def test_a_zip_is_fetched_once(remote, tmp_path, published):
    remote.pipe("/publisher/cells.zip", CONTENT)
    path = fetch(URL, tmp_path / "new" / "downloads", published)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    remote.store.clear()
    assert fetch(URL, tmp_path / "new" / "downloads", published) == path


def test_a_copy_that_is_not_the_published_file_any_more_is_fetched_anew(remote, tmp_path):
    remote.pipe("/publisher/cells.zip", archive(b"older"))
    older = fetch(URL, tmp_path)
    remote.pipe("/publisher/cells.zip", CONTENT)
    assert fetch(URL, tmp_path) == older
    assert older.read_bytes() != CONTENT
    assert fetch(URL, tmp_path, HONEST) == older
    assert older.read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["memory://publisher/cells", "memory://publisher/cells/"])
def test_a_folder_is_fetched_once(remote, tmp_path, url):
    for name, content in FILES.items():
        remote.pipe(f"/publisher/cells/{name}", content)
    path = fetch(url, tmp_path)
    remote.store.clear()
    assert fetch(url, tmp_path) == path
    source = open_source(path)
    assert source.entries() == [Entry(name) for name in sorted(FILES)]
    assert {entry.path: source.read(entry) for entry in source.entries()} == FILES
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "published",
    [Published(HONEST.size + 1, HONEST.sha256), Published(HONEST.size, "0" * 64)],
    ids=["size", "sha256"],
)
def test_another_file_than_published_is_deleted(remote, tmp_path, published):
    remote.pipe("/publisher/cells.zip", CONTENT)
    with pytest.raises(CellsError, match="not the published file") as caught:
        fetch(URL, tmp_path, published)
    message = str(caught.value)
    assert URL in message
    assert f"found {HONEST.size:,} bytes with sha256 {HONEST.sha256}" in message
    assert f"expected {published.size:,} bytes with {published.sha256}" in message
    assert not list(tmp_path.iterdir())


def test_a_folder_with_published_numbers_is_refused(remote, tmp_path):
    remote.pipe("/publisher/cells/A/1.png", b"one")
    with pytest.raises(CellsError, match=r"memory://publisher/cells"):
        fetch("memory://publisher/cells", tmp_path, HONEST)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def closed_port():
    with socket.socket() as bound:  # bound but not listening: every connection is refused
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize(
    "url",
    [
        "memory://nobody/cells.zip",
        "memory://nobody/cells",
        "http://127.0.0.1:{port}/cells.zip",
        "nosuchprotocol://publisher/cells.zip",
    ],
)
def test_an_unreachable_url_says_what_to_do(remote, tmp_path, closed_port, url):
    url = url.format(port=closed_port)
    with pytest.raises(CellsError, match=r"could not be downloaded .*give its path") as caught:
        fetch(url, tmp_path)
    assert str(caught.value).startswith(f"{url}: ")
    assert not list(tmp_path.iterdir())


class HangsUp(BaseHTTPRequestHandler):
    """Sends less than it announces."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(3 * CHUNK_BYTES))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(bytes(2 * CHUNK_BYTES))

    def log_message(self, *_):
        pass


def test_a_download_that_breaks_off_leaves_nothing(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), HangsUp) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(CellsError, match=r"could not be downloaded .*give its path"):
            fetch(f"http://127.0.0.1:{server.server_port}/cells.zip", tmp_path / "downloads")
        server.shutdown()
    assert (tmp_path / "downloads").is_dir()
    assert not list((tmp_path / "downloads").iterdir())


def test_what_a_broken_download_left_is_replaced(remote, tmp_path):
    remote.pipe("/publisher/cells.zip", CONTENT)
    target = fetch(URL, tmp_path)
    target.rename(target.with_name(target.name + ".part"))
    target.with_name(target.name + ".part").write_bytes(CONTENT + b"more")
    assert fetch(URL, tmp_path, HONEST) == target
    assert target.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [target]


def test_a_page_is_not_kept_as_the_archive(remote, tmp_path):
    remote.pipe("/publisher/cells.zip", PAGE)
    with pytest.raises(
        CellsError, match=r"^memory://publisher/cells\.zip: gave a file that begins with '<html>.*sign in"
    ):
        fetch(URL, tmp_path)
    assert not list(tmp_path.iterdir())
    remote.pipe("/publisher/cells.zip", CONTENT)
    assert fetch(URL, tmp_path).read_bytes() == CONTENT


def test_a_folder_without_an_image_is_not_kept(remote, tmp_path):
    remote.pipe("/publisher/cells/login.html", PAGE)
    with pytest.raises(CellsError, match=r"^memory://publisher/cells: gave a folder without an image"):
        fetch("memory://publisher/cells", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_that_was_kept_as_the_archive_is_replaced(remote, tmp_path):
    remote.pipe("/publisher/cells.zip", CONTENT)
    kept = fetch(URL, tmp_path)
    kept.write_bytes(PAGE)
    assert fetch(URL, tmp_path) == kept
    assert kept.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [kept]


def test_equal_file_names_do_not_collide(remote, tmp_path):
    urls = [f"memory://{publisher}/cells.zip" for publisher in ("one", "two")]
    for url in urls:
        remote.pipe(url, archive(url.encode()))
    first, second = (fetch(url, tmp_path) for url in urls)
    assert first != second
    assert [first.read_bytes(), second.read_bytes()] == [archive(url.encode()) for url in urls]
    assert {first.suffix, second.suffix} == {".zip"}
