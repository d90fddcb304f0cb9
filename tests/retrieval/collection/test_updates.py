"""Changes while a run is searched: what is refused, and what a crash or a second writer leaves."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import searched_run
from searched_run import MARK, ids, rows_of

from rejepa_jax.retrieval.collection import updates, versions
from rejepa_jax.retrieval.collection.opening import open_collection
from rejepa_jax.types import ConfigError, DataError


@pytest.fixture
def run(tmp_path):
    return searched_run.make(tmp_path)


class Killed(BaseException):
    """The process ends here: nothing handles it."""


def die_at(monkeypatch, step):
    """Ends at the given one of all calls that change the files; returns how many there were."""
    calls = []

    def dying(real):
        def call(*arguments, **named):
            calls.append(real)
            if len(calls) == step:
                raise Killed
            return real(*arguments, **named)

        return call

    for module, name in ((os, "replace"), (os, "rename"), (os, "fsync"), (np, "save")):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    return calls


CHANGES = {
    "add": lambda run: updates.add(run, rows_of([100], searched_run.unit(1, 1)), MARK),
    "delete": lambda run: updates.delete(run, ["place003"]),
    "merge": updates.merge,
}


@pytest.mark.parametrize("name", CHANGES)
def test_crash_at_any_step_leaves_the_old_or_the_new_version(run, monkeypatch, name):
    updates.delete(run, ["place001"])
    old, step, outcomes = ids(run), 0, []
    while True:
        step += 1
        with monkeypatch.context() as patched:
            calls = die_at(patched, step)
            try:
                CHANGES[name](run)
                break
            except Killed:
                pass
        outcomes.append(ids(run) == old)
        if not outcomes[-1]:  # it had happened: nothing is left to try but the rest
            break
    assert step > 8
    assert all(outcomes[:-1])
    if outcomes[-1]:
        assert len(calls) < step
    CHANGES["delete"](run) if name != "delete" else None
    expected = {"add": [*old, "place100"], "delete": old, "merge": old}[name]
    assert ids(run) == [each for each in expected if each != "place003"]
    leftovers = [path.name for path in (run / "updates").iterdir() if "." in path.name[1:]]
    assert leftovers in ([], ["CURRENT.tmp"])


def test_second_writer_is_refused_and_the_lock_of_a_dead_one_is_free(run):
    refused = pytest.raises(ConfigError, match=f"process {os.getpid()} is changing the run")
    with versions.writing(run), refused:
        updates.delete(run, ["place001"])
    updates.delete(run, ["place001"])
    with (run / "updates" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_ids_that_are_there_or_come_twice_are_refused(run):
    new = searched_run.unit(1, 2)
    with pytest.raises(ConfigError, match="1 ids that are there already, such as 'place004'"):
        updates.add(run, rows_of([4, 100], new), MARK)
    with pytest.raises(DataError, match="what is to be added: got id 'place100' twice"):
        updates.add(run, rows_of([100, 100], new), MARK)
    with pytest.raises(ConfigError, match="nothing to add"):
        updates.add(run, [], MARK)
    with pytest.raises(DataError, match="2 ids that are not there, such as 'a'"):
        updates.delete(run, ["place001", "a", "b"])
    assert len(ids(run)) == 24
    updates.add(run, rows_of([4, 100], new), MARK, is_replacing=True)
    assert len(ids(run)) == 25
    assert open_collection(run).search(new[:1], 1)[1].tolist() == [[24]]


def test_vectors_of_another_encoder_are_not_added(run):
    rows = rows_of([100], searched_run.unit(1, 1))
    with pytest.raises(DataError, match="encoder eeeeeeeeeeee, expected ffffffffffff"):
        updates.add(run, rows, {"fingerprint": "e" * 64})
    with pytest.raises(DataError, match="not finite"):
        updates.add(run, rows_of([100], searched_run.unit(1, 1) * np.nan), MARK)
    assert len(ids(run)) == 24


def never_made():
    """Parts that fail as soon as one is asked for."""
    raise AssertionError("a part was made")
    yield


def test_nothing_is_made_of_images_that_may_not_be_added(run):
    def add(ids, mark="f" * 64):
        updates.add(run, never_made(), {"fingerprint": mark}, ids=ids)

    with pytest.raises(ConfigError, match="1 ids that are there already, such as 'place004'"):
        add(["place004", "place100"])
    with pytest.raises(DataError, match="got id 'place100' twice"):
        add(["place100", "place101", "place100"])
    with pytest.raises(DataError, match=r"got the id 'a\\udcff', expected Unicode"):
        add(["a\udcff"])
    with pytest.raises(DataError, match="encoder eeeeeeeeeeee, expected ffffffffffff"):
        add(["place100"], "e" * 64)
    with versions.writing(run), pytest.raises(ConfigError, match="second writer"):
        add(["place100"])
    with pytest.raises(AssertionError, match="a part was made"):
        add(["place100"])
    assert len(ids(run)) == 24


@pytest.mark.parametrize("promised", [["place100"], ["place101", "place100"], ["place100"] * 3])
def test_images_that_are_no_longer_those_looked_at_are_not_added(run, promised):
    rows = iter(rows_of([100, 101], searched_run.unit(1, 2)))
    match = "twice" if len(promised) == 3 else r"changed after image 0, expected the same \d images"
    with pytest.raises(DataError, match=match):
        updates.add(run, rows, MARK, ids=promised)
    assert len(ids(run)) == 24


@pytest.mark.slow
def test_killed_writer_leaves_the_old_or_the_new_version(run):
    """The same with a process that is really killed, at any moment."""
    program = (
        "import sys, pathlib; sys.path.insert(0, 'tests');"
        "from rejepa_jax.retrieval.collection import updates; import itertools;"
        "run = pathlib.Path(sys.argv[1])\n"
        "for n in itertools.count():\n"
        "    updates.delete(run, [f'place{n:03d}']); print(n, flush=True); updates.merge(run)"
    )
    rng, seen = np.random.default_rng(0), 24
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", program.replace("count()", f"count({24 - seen})"), str(run)],
            stdout=subprocess.PIPE,
        )
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        left = ids(run)
        assert left == searched_run.names(range(24 - len(left), 24))
        assert len(left) < seen
        seen = len(left)
