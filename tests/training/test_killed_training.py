"""Training that is killed (-9) at random moments and started again ends with the same bits."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import many
import numpy as np
import orbax.checkpoint as ocp
import pytest
import road
from etils import epath

from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import checkpoint_files

HERE = pathlib.Path(__file__).parent
SETTINGS = {"train__steps": 150, "train__save_every": 1, "train__keep": 1}
TIMES = ("--join_timeout=60", "--heartbeat_timeout=10")
PATIENCE = 100  # seconds in which a process is to end when another is gone, with such times


@pytest.mark.parametrize(
    ("steps", "kills"), [(16, 3), pytest.param(200, 40, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_every_life_goes_on_from_a_whole_checkpoint(
    tmp_path, steps, kills
):
    done = subprocess.run(
        [sys.executable, HERE / "killing.py", tmp_path, str(steps), str(kills), "1"],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["ends"][0] == seen["ends"][-1] == 0
    assert set(seen["ends"][1:-1]) <= {-9, 0}  # it may have been at the end already
    assert set(seen["faults"]) <= {""}
    # Where a life was killed too early to say where it began, the next says it.
    assert set(seen["began"]) <= {0, *seen["there"]}
    assert seen["began"] == sorted(seen["began"])
    assert seen["digests"][0] == seen["digests"][1]


def commands(run, processes):
    argv = road.arguments(run, stage="train", **SETTINGS)
    if processes == 1:
        return [road.command("main", *argv)]
    return many.of_the_road(processes, *argv, *TIMES)


def digest(directory):
    """The sha256 of all arrays of the last checkpoint, whoever wrote it."""
    where = epath.Path(directory / str(last_saved(directory)) / "state")
    handler, here = ocp.StandardCheckpointHandler(), jax.sharding.SingleDeviceSharding
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here(jax.devices()[0])),
        handler.metadata(where).tree,
    )
    arrays = named_arrays(handler.restore(where, args=ocp.args.StandardRestore(like)))
    every = b"".join(name.encode() + np.asarray(arrays[name]).tobytes() for name in sorted(arrays))
    return len(arrays), hashlib.sha256(every).hexdigest()


def last_saved(directory):
    return max(checkpoint_files.saved_steps(directory), default=0)


def wait_for_step(directory, step, running):
    """Waits until there is a checkpoint of this step, or a later one."""
    deadline = time.monotonic() + 120
    while last_saved(directory) < step:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    run = tmp_path_factory.mktemp("road") / "run"
    assert road.run("main", *road.arguments(run, stage="prepare")).returncode == 0
    return run


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_command_killed_at_twenty_moments_ends_with_the_bits_of_an_unbroken_one(
    prepared, tmp_path, processes
):
    whole, killed = (shutil.copytree(prepared, tmp_path / name) for name in ("whole", "killed"))
    codes, said = many.ended(commands(whole, processes))
    assert set(codes) == {0}, said

    moments, partial = random.Random(processes), killed / "checkpoints.partial"
    there = [0]
    for number in range(20):
        with many.started(commands(killed, processes)) as running:
            if number % 5:
                wait_for_step(partial, there[-1] + 1, running[0])
            time.sleep(moments.uniform(0, 1.5 if number % 5 else 6))  # else: while it starts
            moments.choice(running).kill()
            for process in running:
                said = process.communicate(timeout=PATIENCE)[0]
                assert process.returncode != 0, said
        steps = checkpoint_files.saved_steps(partial)
        assert not any(checkpoint_files.find_fault(partial / str(step)) for step in steps)
        there.append(max(steps, default=0))
    assert there == sorted(there)
    assert there[-1] > 5
    codes, said = many.ended(commands(killed, processes))
    assert set(codes) == {0}, said
    assert digest(killed / "checkpoints") == digest(whole / "checkpoints")


@pytest.mark.slow
def test_command_asked_to_stop_saves_ends_with_75_and_goes_on(prepared, tmp_path):
    run = shutil.copytree(prepared, tmp_path / "run")
    with many.started(commands(run, 1)) as (running,):
        wait_for_step(run / "checkpoints.partial", 3, running)
        running.send_signal(signal.SIGTERM)
        said = running.communicate(timeout=60)[0]
    assert running.returncode == 75
    step = last_saved(run / "checkpoints.partial")
    assert f"asked to stop: step {step} of 150 is saved" in said
    assert not (run / "lease.json").exists()
    codes, said = many.ended(commands(run, 1))
    assert codes == [0]
    assert f"resumed from {run}/checkpoints.partial/{step}" in said[0]


def losses(run):
    lines = (run / "checkpoints" / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


@pytest.mark.slow
def test_two_processes_of_which_one_is_told_stop_together_and_one_goes_on_alone(prepared, tmp_path):
    whole, run = (shutil.copytree(prepared, tmp_path / name) for name in ("whole", "run"))
    codes, said = many.ended(commands(whole, 1))
    assert codes == [0], said
    with many.started(commands(run, 2)) as running:
        wait_for_step(run / "checkpoints.partial", 2, running[0])
        running[1].send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [75, 75], said
    step = last_saved(run / "checkpoints.partial")
    assert f"asked to stop: step {step} of 150 is saved" in "".join(said)
    codes, said = many.ended(commands(run, 1))
    assert codes == [0], said
    assert f"resumed from {run}/checkpoints.partial/{step}" in said[0]
    ours, alone = losses(run), losses(whole)
    assert list(ours) == list(alone)
    np.testing.assert_allclose(list(ours.values()), list(alone.values()), rtol=1e-3)
