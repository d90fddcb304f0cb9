"""The road walked by several processes: the same numbers as by one, and all end when one does."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import many
import pytest
import road

from rejepa_jax import artifacts
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.encoder import load_bundle

pytestmark = pytest.mark.slow  # each of the processes compiles
TWENTY = {"stage": "train", "train__steps": 20, "train__save_every": 20, "health__every": 10}
COMPARED = {"loss", "prediction_loss", "variance_loss", "gradient_norm"}
MEASURED = {"target/mean_cosine", "context/mean_cosine"}  # of the features, every ten steps


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run that has its records."""
    run = tmp_path_factory.mktemp("prepared") / "run"
    done = road.run("main", *road.arguments(run, stage="prepare"))
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def copied(prepared, tmp_path):
    """Makes runs that have the same records."""

    def copy(name):
        return shutil.copytree(prepared, tmp_path / name)

    return copy


def walk(count, *argv, devices=1):
    """Walks the road to its end; returns what each process said."""
    alone = [road.command("main", *argv)]
    codes, said = many.ended(many.of_the_road(count, *argv) if count > 1 else alone, devices)
    assert codes == [0] * count, said
    return said


def logged(run):
    lines = (run / "checkpoints" / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line for line in map(json.loads, lines)}


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory):
    """What one process with one device logs of twenty steps."""
    run = shutil.copytree(prepared, tmp_path_factory.mktemp("alone") / "run")
    walk(1, *road.arguments(run, **TWENTY))
    return logged(run)


@pytest.mark.parametrize(
    ("count", "devices", "mesh"),
    [(1, 8, {}), (4, 1, {}), (2, 2, {}), (2, 4, {"mesh__fsdp": 4}), (2, 1, {"mesh__fsdp": 2})],
)
def test_twenty_steps_are_the_same_for_any_number_of_processes(copied, alone, count, devices, mesh):
    run = copied("run")
    walk(count, *road.arguments(run, **TWENTY, **mesh), devices=devices)
    lines = logged(run)
    assert list(lines) == list(alone) == list(range(21))
    for step, expected in alone.items():
        for names, rel in ((COMPARED, 1e-5), (MEASURED, 1e-4)):
            for name in expected.keys() & names:
                assert lines[step][name] == pytest.approx(expected[name], rel=rel), (step, name)
    assert lines[20].keys() == alone[20].keys()


def test_whole_road_by_two_is_that_by_one(copied):
    flags = {"health__every": 3, "export__part_rows": 16}
    ours, theirs = copied("ours"), copied("theirs")
    said = walk(2, *road.arguments(ours, **flags))
    walk(1, *road.arguments(theirs, **flags))
    assert said[0].count(": done") == 6
    assert "report.html" in said[0]
    assert not re.search("stage|done|images", said[1]), said[1]  # the main process talks
    for path in sorted(theirs.glob("*/manifest.json")):
        assert artifacts.verify(ours / path.parent.name) == [], path.parent.name
    marks = [load_bundle(run / "encoders" / "untrained").fingerprint for run in (ours, theirs)]
    assert marks[0] == marks[1]
    vectors = [reading.read_vectors(run / "embeddings") for run in (ours, theirs)]
    assert abs(vectors[0] - vectors[1]).max() < 1e-4
    again = walk(2, *road.arguments(ours, **flags))
    assert again[0].count("complete and unchanged, skipped") == 8
    assert not list(ours.glob("*.partial"))
    assert not (ours / "lease.json").exists()


def test_state_that_two_processes_share_is_saved_killed_and_goes_on_anywhere(copied):
    """Also fault 9: the run goes on with another number of processes."""
    run, settings = copied("run"), {"stage": "train", "train__steps": 12}
    shared = many.of_the_road(2, *road.arguments(run, **settings, mesh__fsdp=2))
    saved = run / "checkpoints.partial" / "4"
    with many.started([*shared[:1], [*shared[1], "--heartbeat_timeout=10"]]) as running:
        while not saved.exists() and running[0].poll() is None:
            time.sleep(0.01)
        running[0].kill()
        assert running[1].wait(60) != 0
    one = shutil.copytree(run, run.with_name("one"))
    whole = copied("whole")
    said = walk(2, *road.arguments(run, **settings, mesh__fsdp=2))
    assert "resumed from" in said[0]
    assert "resumed from" in walk(1, *road.arguments(one, **settings))[0]
    walk(2, *road.arguments(whole, **settings, mesh__fsdp=2))
    ours, its, theirs = (
        [line["loss"] for line in logged(each).values()] for each in (run, one, whole)
    )
    assert ours == theirs
    assert its == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "code", "match"),
    [
        (["--config", "configs/ben14k.py", "--config.data.archive=nowhere"], 3, "nowhere"),
        (["--config", "configs/quickstart.py", "--stage=fly"], 2, "choose from prepare"),
        (["--config", "configs/quickstart.py", "--workdir=gs://b/run"], 2, "a bucket for 2 proc"),
    ],
)
def test_mistake_is_told_once_and_all_end_with_its_code(tmp_path, flags, code, match):
    argv = ["--workdir", tmp_path / "run", *flags]
    codes, said = many.ended(many.of_the_road(2, *argv), timeout=120)
    assert codes == [code, code], said
    assert len(re.findall(match, "".join(said))) == 1, said
    assert "Traceback" not in "".join(said)


@contextlib.contextmanager
def launched(*argv):
    """Starts the launcher in a session of its own; kills at the end all that it has started."""
    launcher = subprocess.Popen(
        [road.ROOT / "launch" / "local.sh", *map(str, argv)],
        env=many.environment() | {"PYTHON": sys.executable, "GRACE": "20"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield launcher
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()
        launcher.stdout.close()


def test_launcher_takes_up_again_what_a_killed_process_has_ended(copied):
    run = copied("run")
    argv = road.arguments(run, stage="train")
    with launched("--processes", 2, "--devices", 2, "--", *argv) as launcher:
        while not (run / "checkpoints.partial" / "2").exists() and launcher.poll() is None:
            time.sleep(0.01)
        find = ["pgrep", "-g", str(launcher.pid), "-f", "process_id=1"]
        found = subprocess.run(find, capture_output=True, text=True, check=True)
        os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
        said = launcher.communicate(timeout=240)[0]
    assert launcher.returncode == 0, said
    assert re.search(r"interrupted \(exit code \d+\); going on", said)
    assert "[0] " in said
    assert "resumed from" in said
    assert artifacts.verify(run / "checkpoints") == []


def test_launcher_ends_with_the_code_of_a_mistake_and_stops_when_asked(copied):
    with launched("--processes", 2, "--", "--config", "configs/none.py") as launcher:
        said = launcher.communicate(timeout=120)[0]
    assert launcher.returncode == 2, said
    run = copied("run")
    argv = road.arguments(run, stage="train", train__steps=100000, train__save_every=100000)
    log = run / "checkpoints.partial" / "metrics.jsonl"
    with launched("--processes", 2, "--", *argv) as launcher:
        while not (log.exists() and log.read_text()) and launcher.poll() is None:
            time.sleep(0.1)
        launcher.send_signal(signal.SIGTERM)
        said = launcher.communicate(timeout=120)[0]
    assert launcher.returncode == 75, said
    assert len(re.findall(r"asked to stop: step \d+ of 100000 is saved", said)) == 1
