"""Faults 34 and 39: bodies too large or too slow, too many requests, clients that leave."""

import asyncio
import json
import threading
import time

import pytest

from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.serve import limits
from rejepa_jax.serve.settings import Settings

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch):
    monkeypatch.setattr(limits, "LINGER", 0.05)


@pytest.mark.parametrize("headers", [JSON, FORM])
def test_oversized_body_is_413_with_and_without_content_length(serving, headers):
    client = serving(Settings(max_body=1000))
    path = "/api/search" if headers is JSON else "/api/search/image"
    for body in (b"x" * 1001, iter([b"x" * 600, b"x" * 600])):
        response = client.post(path, content=body, headers=headers)
        assert response.status_code == 413
        assert "expected at most 1000" in response.json()["error"]
        assert response.headers["connection"] == "close"


def test_text_is_bounded_more_narrowly_than_images(serving):
    client = serving(Settings(max_body=2**25))
    body = json.dumps({"positive": ["x" * limits.MAX_TEXT]})
    assert client.post("/api/search", content=body, headers=JSON).status_code == 413


def scope_of(path, headers):
    headers = [
        (b"host", b"localhost"),
        *((k.lower().encode(), v.encode()) for k, v in headers.items()),
    ]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1"}
    return scope | {"headers": headers}


def ask(app, path, headers, receive):
    """Speaks ASGI itself: a body that stalls or breaks off, as no client library sends it."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope_of(path, headers), receive, send))
    return sent


@pytest.mark.parametrize("headers", [JSON, FORM])
def test_slow_body_is_408_after_the_time_for_it(serving, headers):
    app = serving(Settings(body_timeout=0.05)).app
    path = "/api/search" if headers is JSON else "/api/search/image"

    async def drip():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"-", "more_body": True}

    start, body = ask(app, path, headers, drip)
    assert start["status"] == 408
    assert "in 0.05 s, expected the whole body by then" in json.loads(body["body"])["error"]


@pytest.mark.parametrize("headers", [JSON, FORM])
def test_client_that_leaves_while_it_sends_is_no_fault_of_ours(serving, headers, caplog):
    app = serving(Settings()).app
    path = "/api/search" if headers is JSON else "/api/search/image"
    messages = [{"type": "http.request", "body": b"-", "more_body": True}]

    async def leave():
        return messages.pop() if messages else {"type": "http.disconnect"}

    start, _ = ask(app, path, headers, leave)
    assert start["status"] == 499
    assert not caplog.records


def test_requests_beyond_the_limit_are_told_to_come_again_and_then_served(serving, monkeypatch):
    client = serving(Settings(max_requests=1))
    assert client.get("/api/items/1").status_code == 200
    entered, leave = threading.Event(), threading.Event()

    def hold(*_):
        entered.set()
        leave.wait(5)

    monkeypatch.setattr(Collection, "thumbnail", hold)
    first = threading.Thread(target=client.get, args=("/api/thumbnails/1",))
    first.start()
    assert entered.wait(5)
    busy = client.get("/api/items/1")
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert "expected at most 1; try again" in busy.json()["error"]
    assert client.get("/readyz").status_code == 503  # probes are answered: not warm yet
    assert client.get("/healthz").status_code == 200
    leave.set()
    first.join()
    assert client.get("/api/items/1").status_code == 200


def test_answer_that_takes_too_long_is_503(serving, monkeypatch):
    client = serving(Settings(answer_timeout=0.05))
    monkeypatch.setattr(Catalogue, "facts", lambda *_: time.sleep(0.3))
    response = client.get("/api/items/1")
    assert response.status_code == 503
    assert response.json()["error"] == "got no answer within 0.05 s; try again later"
