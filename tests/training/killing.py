"""A program that trains, is killed at random moments, and is started again until it has finished.

    python killing.py DIRECTORY STEPS KILLS SEED

The loop, the checkpoints and the data are the real ones, the model is a chaotic map of few numbers:
one batch too many, too few or out of order changes all of them. Each life is a fork of this
process, which has imported everything and started nothing, so that lives are short. First one of
them is left alone, in another directory. Prints as JSON what there was to see.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import signal
import sys
import time
import traceback

import grain
import jax
import jax.numpy as jnp
import numpy as np

from rejepa_jax.config import Config, Train
from rejepa_jax.training import checkpoint_files, loop
from rejepa_jax.training.checkpoint import Checkpoints
from rejepa_jax.training.state import TrainState


class Silent:
    """A monitor that says nothing."""

    waiting = staticmethod(contextlib.nullcontext)
    keep = staticmethod(lambda *_: None)
    is_due = staticmethod(lambda _: False)
    log = staticmethod(lambda *_: None)


@jax.jit
def step_fn(state, batch):
    x = state.params["x"]
    x = 3.9 * x * (1 - x) * 0.999 + 0.001 * jnp.cos(batch.astype(jnp.float32))
    return TrainState(state.step + 1, {"x": x}, None, ()), {}


def start():
    x = jnp.asarray(np.random.default_rng(0).random(5000, np.float32))
    return TrainState(jnp.int32(0), {"x": x}, None, ())


def live(directory, steps):
    """Goes on from what is there to the end; notes where it began, and the hash of the end."""
    config = dataclasses.replace(Config(), train=Train(steps=steps, save_every=1))
    batches = iter(grain.MapDataset.range(1 << 20).to_iter_dataset())
    checkpoints = Checkpoints(directory, 1, {})
    state = checkpoints.restore(start(), batches)
    note(directory, "began", 0 if state is None else int(state.step))
    loop.take_steps(config, state or start(), batches, step_fn, Silent, checkpoints)
    checkpoints.close()
    end = Checkpoints(directory, 1, {}).restore(start(), batches)
    note(directory, "digest", hashlib.sha256(np.asarray(end.params["x"]).tobytes()).hexdigest())


def note(directory, what, value):
    with directory.with_name(f"{directory.name}.{what}").open("a") as file:
        file.write(f"{value} ")


def notes(directory, what):
    return directory.with_name(f"{directory.name}.{what}").read_text().split()


def fork(*arguments):
    if pid := os.fork():
        return pid
    code = 1
    try:
        live(*arguments)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(directory, steps, kills, seed):
    whole, killed, moments = directory / "whole", directory / "killed", random.Random(seed)
    seen = {"ends": [end(fork(whole, steps))], "there": [], "faults": []}
    for _ in range(kills):
        pid = fork(killed, steps)
        time.sleep(moments.uniform(0.2, 1.6))
        os.kill(pid, signal.SIGKILL)
        seen["ends"].append(end(pid))
        there = checkpoint_files.saved_steps(killed)
        seen["there"].append(there[-1] if there else 0)
        seen["faults"] += [checkpoint_files.find_fault(killed / str(step)) for step in there]
    seen["ends"].append(end(fork(killed, steps)))
    seen["began"] = list(map(int, notes(killed, "began")))
    seen["digests"] = [notes(where, "digest")[-1] for where in (whole, killed)]
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))
