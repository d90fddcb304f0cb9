"""Work for processes of their own, which import it by name; quick to import."""

import os
import pathlib
import signal
import time

from rejepa_jax.types import DataError


def count_up(folder, index, advance):
    for _ in range(index + 2):
        advance(10)
    pathlib.Path(folder, f"{index}-{os.getpid()}").touch()


def die_or_wait(folder, index, advance):
    """The first kills itself once the second is there; the second waits for ever."""
    pathlib.Path(folder, f"{index}-{os.getpid()}").touch()
    while not list(pathlib.Path(folder).glob("1-*")):
        time.sleep(0.01)
    if index == 0:
        advance(3)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def refuse(_, index, advance):
    advance(1)
    if index == 1:
        raise DataError("part 1: got nothing, expected something; mend it")
    time.sleep(600)
