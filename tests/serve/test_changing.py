"""Faults 32 and 39: a server is stopped, or its index is replaced, while clients ask."""

import itertools
import json
import signal
import threading
import time

import httpx
import pytest
import searched_run
from processes import FAKE, REAL, answer, head, line, serving, wait

from rejepa_jax.retrieval.collection import updates
from rejepa_jax.retrieval.collection.parts import Rows

pytestmark = pytest.mark.service
JSON = "Content-Type: application/json"


def slow_request(client, path="/api/search"):
    """Sends all of a request but its last byte."""
    body = json.dumps({"positive": ["patch-3"], "k": 2}).encode()
    sock = line(client)
    sock.sendall(head(path, JSON, f"Content-Length: {len(body)}") + body[:-1])
    time.sleep(0.2)
    return sock, body[-1:]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_signal_makes_it_unready_finishes_what_runs_and_exits_with_0(signal_number):
    with serving(FAKE, "--port", 0) as (process, client):
        running, rest = slow_request(client)
        process.send_signal(signal_number)
        time.sleep(0.3)
        refused = client.get("/readyz")  # the notice: still answered, no longer ready
        assert refused.status_code == 503
        assert "stopping" in refused.json()["error"]
        assert client.get("/api/info").status_code == 200
        time.sleep(1.2)
        with pytest.raises(httpx.ConnectError):
            httpx.get(client.base_url.join("/healthz"))
        assert process.poll() is None  # it waits for the request that runs
        running.sendall(rest)
        assert answer(running).startswith(b"HTTP/1.1 200 ")
        assert process.wait(5) == 0
    assert "Traceback" not in process.log


def test_request_that_never_ends_holds_the_server_no_longer_than_the_deadline():
    with serving(FAKE, "--port", 0, "--drain_timeout", 1) as (process, client):
        running, _ = slow_request(client)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        running.close()


def test_swap_of_the_index_while_clients_search_fails_no_request(tmp_path):
    run, bundle = searched_run.make_whole(tmp_path)
    more, codes, versions = searched_run.unit(1, 8, searched_run.DIM), [], set()
    stop = threading.Event()
    with serving(REAL, run, "--port", 0) as (_, client):

        def ask(number):
            with httpx.Client(base_url=client.base_url, timeout=30) as own:
                for place in itertools.cycle(range(number, 20, 4)):
                    body = {"positive": [f"place{place:03d}"], "k": 5}
                    sent = own.post("/api/search", json=body)
                    codes.append(sent.status_code)
                    versions.add(sent.json()["version"])
                    assert len(sent.json()["hits"]) == 5
                    if stop.is_set():
                        return

        clients = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for each in clients:
            each.start()

        def published(change, *arguments):
            seen = len(versions)
            change(run, *arguments)
            wait(lambda: len(versions) > seen or not clients[0].is_alive(), 30)

        wait(lambda: versions, 30)
        try:
            for step in range(3):
                rows = Rows(searched_run.part([100 + step], more[step : step + 1]), lambda _: None)
                published(updates.add, [rows], {"fingerprint": bundle.fingerprint})
            published(updates.delete, ["place022", "place100"])
            published(updates.merge)
            (run / "updates" / "CURRENT").write_text("damaged")  # what was opened stays in use
            time.sleep(1.5)
        finally:
            stop.set()
            for each in clients:
                each.join()
        assert client.get("/api/info").json()["rows"] == 25
    assert len(versions) == 6
    assert set(codes) == {200}
    assert len(codes) > 50
