"""Exports by several processes, killed by the system: nothing is left running, the next goes on."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import export_runs
import pytest

from rejepa_jax.config import Export
from rejepa_jax.retrieval.embeddings import exporting, reading
from rejepa_jax.retrieval.encoder import Embedder

HERE = pathlib.Path(__file__).parent
DEADLINE = 120  # seconds, on a machine that is busy with something else


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed")
    export_runs.make_records(root)
    return root


@pytest.fixture(scope="module")
def unbroken(root):
    """The sha256 of every file, as one process writes them in one go."""
    (root / "unbroken").mkdir()
    return go_on(root, root / "unbroken")


def go_on(root, folder):
    records = export_runs.Placed(**vars(export_runs.open_records(root / "records")))
    embedder = Embedder(export_runs.make_bundle(records))
    export = Export(thumbnails=8, part_rows=2)
    exporting.write_embeddings(embedder, records, folder, 2, export)
    return export_runs.digests(folder)


def start(root, folder):
    """Starts an export and waits for its first part; returns it and its working processes."""
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, HERE / "export_runs.py", root / "records", folder],
        env=os.environ | {"PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait(lambda: process.poll() is not None or list(folder.glob("part-*.parquet")))
    return process, [pid for pid in children(process.pid) if b"spawn_main" in command(pid)]


def children(parent):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            facts = path.read_text().rpartition(")")[2].split()  # after the name: state, parent
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(facts[1]) == parent:
            found.append(int(path.parent.name))
    return found


def command(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait(is_so):
    end = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_kill_9_of_a_process_ends_the_export_and_the_next_run_makes_the_same_table(
    root, tmp_path, unbroken
):
    process, workers = start(root, tmp_path)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "DataError: export: a process was ended from outside (signal 9)" in said
    assert not any(map(command, workers))
    finished = len(list(tmp_path.glob("part-*.parquet")))
    assert 1 <= finished < 5
    assert go_on(root, tmp_path) == unbroken
    assert len(reading.read(tmp_path).ids) == 10


@pytest.mark.slow
def test_kill_9_of_the_export_again_and_again_leaves_no_process_and_the_same_table(
    root, tmp_path, unbroken
):
    for _ in range(2):
        process, workers = start(root, tmp_path)
        process.kill()
        process.communicate(timeout=DEADLINE)
        wait(lambda: not any(map(command, workers)))  # noqa: B023
    assert go_on(root, tmp_path) == unbroken
