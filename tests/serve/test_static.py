"""Fault 37: the files of the page, and no others."""

import asyncio

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from rejepa_jax.serve import errors, probes

TYPES = {".html": "text/html", ".css": "text/css"} | probes.MIME_TYPES


def test_every_file_of_the_page_has_the_type_that_browsers_ask_for(client):
    files = [path for path in probes.STATIC.rglob("*") if path.suffix in TYPES]
    assert files
    for path in files:
        sent = client.get(f"/static/{path.relative_to(probes.STATIC).as_posix()}")
        assert sent.status_code == 200
        assert sent.headers["content-type"].split(";")[0] == TYPES[path.suffix], path
    assert client.get("/").headers["content-type"].startswith("text/html")


def test_unchanged_files_are_not_sent_again(client):
    for path in ("/", "/static/index.html"):
        first = client.get(path)
        assert first.headers["cache-control"] == "no-cache"  # ask each time, which costs little
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.fixture
def app(tmp_path):
    root = tmp_path / "static"
    (root / "folder").mkdir(parents=True)
    (root / "index.html").write_text("page")
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "away").symlink_to(tmp_path)
    app = FastAPI()
    probes.add_page(app, root)
    errors.add_handlers(app)
    return app


@pytest.mark.parametrize(
    "path",
    [
        "../secret", "folder/../../secret", "..%2fsecret", "%2e%2e/secret", "..\\secret",
        "/etc/passwd", "%2fetc%2fpasswd", "link", "away/secret",
        "\0", "index.html\0", "folder", "", "." , "..",
        "x" * 5000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_folder(app, path):
    for raw in (path, path.replace("%2f", "/").replace("%2e", ".")):
        assert status_of(app, f"/static/{raw}") == 404
    assert TestClient(app).get("/static/index.html").text == "page"


def status_of(app, path):
    """Asks with the very path: client libraries would tidy it up."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": b"", "headers": []}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}
    asyncio.run(app(scope, receive, send))
    assert b"secret" not in sent[1]["body"]
    return sent[0]["status"]
