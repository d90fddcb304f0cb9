"""Faults 34, 35 and 39 over real sockets, with the real searcher over a small run."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import searched_run
from hostile import GOOD, NO_IMAGE, TOO_LARGE, geotiff
from processes import REAL, answer, head, line, serving, wait

from rejepa_jax.retrieval.queries import Query
from rejepa_jax.retrieval.search import Searcher

pytestmark = pytest.mark.service
JSON = "Content-Type: application/json"
CHECKS = """
[checks]
# A schema cannot say that scores are as many as ids, or that a vector has a length.
positive_data_acceptance.enabled = false
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 408, 410, 413, 415, 422, 429]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with records, encoder, embeddings and index."""
    return searched_run.make_whole(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(run):
    with serving(REAL, run[0], "--port", 0, "--max_body", 1) as (_, client):
        yield client


def image_of(bundle, seed=0):
    shape, dtype = bundle.record.shape, bundle.record.dtype
    return np.random.default_rng(seed).integers(500, 3000, shape).astype(dtype)


def test_answers_are_the_searchers_by_id_crop_and_upload(client, run):
    searcher = Searcher(run[0])
    for body, query in (
        ({"positive": ["place003"]}, Query(positive=("place003",))),
        (
            {"crop": {"id": "place004", "box": [0, 0, 8, 8]}},
            Query(positive=("place004",), crop=(0, 0, 8, 8)),
        ),
    ):
        expected = searcher.search(query, 5)
        sent = client.post("/api/search", json=body | {"k": 5}).json()["hits"]
        assert [(h["id"], h["row"]) for h in sent] == [(h.id, h.row) for h in expected]
        assert [h["score"] for h in sent] == pytest.approx([h.score for h in expected], abs=1e-6)
    image = image_of(run[1])
    files = {"files": ("a.tif", geotiff(image))}
    sent = client.post("/api/search/image", files=files, data={"request": '{"k": 4}'}).json()
    expected = searcher.search(Query(images=(image,)), 4)
    assert [h["row"] for h in sent["hits"]] == [h.row for h in expected]
    assert client.get("/api/thumbnails/3").content == searched_run.picture(3)


def test_every_hostile_upload_has_its_status_and_the_server_lives_on(client):
    for status, files in ((413, TOO_LARGE), (415, NO_IMAGE), (422, GOOD)):  # good, but not 12 bands
        for name, data in files.items():
            sent = client.post("/api/search/image", files={"files": (name, data)})
            assert sent.status_code == status, name
            assert list(sent.json()) == ["error"]
    assert client.get("/readyz").status_code == 200
    metrics = client.get("/metrics").text
    assert f'rejepa_decode_failures_total{{code="413"}} {len(TOO_LARGE)}.0' in metrics


@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
def test_sender_of_too_much_is_told_so_while_it_sends(client, framing):
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    form = "Content-Type: multipart/form-data; boundary=x"
    with line(client) as sock:
        with contextlib.suppress(OSError):  # after some lingering it is cut off
            sock.sendall(head("/api/search/image", form, framing))
            for _ in range(45):
                part = part.ljust(2**16, b"x")
                sock.sendall(b"10000\r\n%b\r\n" % part if "chunked" in framing else part)
                part = b""
        told = answer(sock)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"expected at most 1048576" in told


def test_clients_that_leave_do_no_harm(client):
    request = head("/api/search", JSON, "Content-Length: 30") + b'{"positive": ["place003"]}    '
    for cut in (10, 60, len(request) - 5, len(request)):
        for _ in range(5):
            with line(client) as sock:
                sock.sendall(request[:cut])
    with line(client) as sock:
        sock.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert answer(sock).startswith(b"HTTP/1.1 400 ")
    wait(lambda: "in_flight 1.0" in client.get("/metrics").text, 5)  # that one itself
    metrics = client.get("/metrics").text
    assert 'code="500"' not in metrics
    assert 'code="499"' in metrics


def test_other_addresses_need_a_token(run, tmp_path):
    with (
        pytest.raises(AssertionError, match="without a token"),
        serving(REAL, run[0], "--host", "0.0.0.0", "--port", 0),
    ):
        pass
    token = tmp_path / "token"
    token.write_text("a-token-of-some-length")
    known = {"Authorization": "Bearer a-token-of-some-length"}
    arguments = (run[0], "--host", "0.0.0.0", "--port", 0, "--token_file", token)
    with serving(REAL, *arguments) as (_, client):
        assert client.get("/api/info").status_code == 401
        assert client.get("/api/info", headers=known).status_code == 200


def test_port_that_is_taken_is_said_so(client, run):
    with (
        pytest.raises(AssertionError, match="in use; choose another"),
        serving(REAL, run[0], "--port", client.base_url.port),
    ):
        pass


def test_schemathesis_finds_no_fault_and_no_answer_that_is_not_described(client, tmp_path):
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        str(client.base_url.join("/openapi.json")),
    ]
    options = ["--max-examples=20", "--seed=1", "--no-color", "--phases=examples,coverage,fuzzing"]
    (tmp_path / "schemathesis.toml").write_text(CHECKS)
    done = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    report = "\n".join(line[:300] for line in done.stdout.splitlines())
    assert done.returncode == 0, report
    assert "10 selected / 10 total" in report
