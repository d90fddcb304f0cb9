"""Two writers of one run: on this machine, on another, with locks and without, in a bucket."""

import errno
import fcntl
import json
import subprocess
import sys
import threading
import time

import pytest

from rejepa_jax.storage import files, lease, mirror, process
from rejepa_jax.types import ConfigError

HOLD = """
import pathlib, sys, time
from rejepa_jax.storage import lease
with lease.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
ELSEWHERE = {"host": "far", "machine": "far 1", "pid": 7, "start": "5", "token": "t", "held": 40}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def watch(monkeypatch):
    """Time that passes only in pauses, in which things happen; no clock that can be set is read."""
    now, events = [0.0], []

    def sleep(seconds):
        now[0] += seconds
        for event in [event for event in events if event[0] <= now[0]]:
            events.remove(event)
            event[1]()

    class Time:
        monotonic = staticmethod(lambda: now[0])

    Time.sleep = staticmethod(sleep)
    monkeypatch.setattr(lease, "time", Time)
    Time.now, Time.events = now, events
    return Time


def write(run, said):
    (run / "lease.json").write_text(json.dumps(said))


def refuse_locks(monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_second_writer_is_refused_by_name_and_what_a_killed_one_held_is_free(run, caplog):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        said = json.loads((run / "lease.json").read_text())
        assert said["pid"] == other.pid
        match = rf"{run}: got a second writer while process {other.pid} on {said['host']} \(writing"
        with pytest.raises(ConfigError, match=match), lease.hold(run):
            pass
    finally:
        other.kill()
        other.wait()
    assert (run / "lease.json").exists()
    with lease.hold(run):
        assert f"taken over from process {other.pid} on {said['host']}" in caplog.text
    assert not (run / "lease.json").exists()


def test_it_is_given_back_however_the_work_ends(run):
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), lease.hold(run):
            with pytest.raises(ConfigError, match="second writer"), lease.hold(run):
                pass
            raise ValueError("x")
        assert list(run.iterdir()) == []


def test_writer_on_another_machine_that_stands_still_is_gone_after_a_minute(run, watch, caplog):
    write(run, ELSEWHERE)
    with lease.hold(run):
        assert 60 <= watch.now[0] < 70
        assert "held by process 7 on far (writing for 40 s when it last said so)" in caplog.text
        assert "taken over from process 7 on far" in caplog.text


def test_writer_on_another_machine_that_moves_is_left_alone_at_once(run, watch):
    write(run, ELSEWHERE)
    watch.events.append((9, lambda: write(run, ELSEWHERE | {"held": 50})))
    with pytest.raises(ConfigError, match=r"process 7 on far .* is at work"), lease.hold(run):
        pass
    assert watch.now[0] < 12
    assert json.loads((run / "lease.json").read_text())["host"] == "far"


def test_writer_on_another_machine_that_ends_meanwhile_is_not_waited_for(run, watch):
    write(run, ELSEWHERE)
    watch.events.append((5, (run / "lease.json").unlink))
    with lease.hold(run):
        assert watch.now[0] < 8


@pytest.mark.parametrize("text", ["", "{", "[3]", '{"machine": 3}'])
def test_lease_that_says_nothing_is_watched_as_any_other(run, watch, text):
    (run / "lease.json").write_text(text)
    with lease.hold(run):
        assert watch.now[0] >= (60 if text else 0)


def test_without_locks_the_process_itself_tells(run, watch, monkeypatch, caplog):
    refuse_locks(monkeypatch)
    me = process.whoami() | {"token": "another", "held": 3}
    write(run, me)
    with pytest.raises(ConfigError, match=f"process {me['pid']} on {me['host']}"), lease.hold(run):
        pass
    write(run, me | {"start": "1"})  # the number now belongs to a younger process
    with lease.hold(run):
        assert "taken over" in caplog.text
        assert watch.now[0] == lease.SETTLE


def test_without_locks_the_later_of_two_that_begin_at_once_wins(run, watch, monkeypatch):
    refuse_locks(monkeypatch)
    watch.events.append((1, lambda: write(run, ELSEWHERE)))
    with pytest.raises(ConfigError, match="process 7 on far"), lease.hold(run):
        pass
    assert json.loads((run / "lease.json").read_text()) == ELSEWHERE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_is_renewed_and_who_lost_it_ends(run, monkeypatch, caplog):
    monkeypatch.setattr(lease, "BEAT", 0.02)
    ended = threading.Event()

    def leave(code):
        assert code == 2
        ended.set()
        raise SystemExit

    monkeypatch.setattr(lease.os, "_exit", leave)
    with lease.hold(run):
        first = (run / "lease.json").stat()
        deadline = time.monotonic() + 30
        while (run / "lease.json").stat().st_ino == first.st_ino:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        while not ended.wait(0.01):  # as often as it is renewed at the same moment
            assert time.monotonic() < deadline
            write(run, ELSEWHERE)
    assert "taken over by process 7 on far" in caplog.text
    assert json.loads((run / "lease.json").read_text()) == ELSEWHERE


def test_run_in_a_bucket_has_one_writer_too(watch, caplog):
    url = "memory://bucket/runs/one"
    run = mirror.open_run(url)
    with lease.hold(run):
        assert json.loads(files.read_bytes(f"{url}/lease.json"))["pid"] == process.whoami()["pid"]
    assert not files.exists(f"{url}/lease.json")

    files.write_bytes(f"{url}/lease.json", json.dumps(ELSEWHERE).encode())
    renew = json.dumps(ELSEWHERE | {"held": 50}).encode()
    watch.events.append((watch.now[0] + 9, lambda: files.write_bytes(f"{url}/lease.json", renew)))
    with pytest.raises(ConfigError, match=rf"{url}: got a second writer.* on far"), lease.hold(run):
        pass
    with lease.hold(run):
        assert f"{url}/lease.json: taken over" in caplog.text
    assert list(run.iterdir()) == []
