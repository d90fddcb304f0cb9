"""Many processes, perhaps on many hosts, as one run: who they are, and how they keep together.

All of them walk the same road in the same order. The main one decides, writes what only one may
write, and talks; the others hear from it what is next. One that fails tells the others, and all
end with its exit code. One that dies or hangs without a word is missed by JAX's coordination
service, which then ends the others (`docs/processes.md`).

For a process that is alone nothing here does anything. How processes find one another: `joining`.
"""

import contextlib
import functools
import itertools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import jax
from absl import logging
from jax._src import distributed  # the key-value store: the public interface has no word for it

LOST = 75  # exit code when another process is gone: run again
PERIOD = 1.0  # seconds between two looks at whether another process has failed
GRACE = 5.0  # seconds that the main process, which the others learn it from, goes on for them
# Errors of the devices that are not for want of another process, by what they begin with.
OURS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND")
_WAIT = 5_000  # milliseconds of waiting in which no signal is handled
_FAILED = "failed/code"

_words, _meetings = itertools.count(), itertools.count()  # the same in all processes
_is_ending = threading.Event()

P = ParamSpec("P")


def index() -> int:
    """Returns the number of this process, from 0; no backend is started for one that is alone."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def count() -> int:
    """Returns how many processes there are."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is the one that decides, writes and talks."""
    return index() == 0


def tell(word: str) -> None:
    """Says something to all other processes, each of which is to `hear` it."""
    if count() > 1:
        _store().key_value_set(f"told/{next(_words)}", word)


def hear() -> str:
    """Waits for what the main process says next, however long its work takes."""
    return _wait(f"told/{next(_words)}")


def by_main(work: Callable[P, None]) -> Callable[P, None]:
    """Lets only the main process do some work; the others wait until it is done."""

    @functools.wraps(work)
    def done_by_main(*args: P.args, **kwargs: P.kwargs) -> None:
        if is_main():
            work(*args, **kwargs)
            tell("done")
        else:
            hear()

    return done_by_main


def wait_for_all(name: str) -> None:
    """Waits until every process has come here, however long their work takes."""
    if count() == 1:
        return
    key = f"{name}/{next(_meetings)}"
    if _store().key_value_increment(f"come/{key}", 1) == count():
        _store().key_value_set(f"met/{key}", "")
    _wait(f"met/{key}")


def _store() -> Any:
    """Returns the client of the store that JAX's coordination service keeps in the main process."""
    return distributed.global_state.client


def _wait(key: str) -> str:
    while True:
        try:
            return _store().blocking_key_value_get(key, _WAIT)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def give_up(message: object, code: int) -> int:
    """Says once, for all processes, what went wrong, and ends all of them with an exit code.

    Returns the code, for a process that is alone to end with.
    """
    if count() == 1:
        logging.error("%s", message)
        return code
    _is_ending.set()
    try:
        _store().key_value_set(_FAILED, str(code))
        logging.error("%s", message)
    except jax.errors.JaxRuntimeError as error:
        if "ALREADY_EXISTS" in str(error):
            code = int(_store().key_value_try_get(_FAILED))
        else:  # nobody can be told any more
            logging.error("%s", message)
    return _leave(code)


def is_lost(error: jax.errors.JaxRuntimeError) -> bool:
    """Whether an error of the devices is what is seen of another process that has ended."""
    return count() > 1 and not str(error).startswith(OURS)


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Watches, from a thread, whether another process fails, and then ends this one with its code.

    An error that nobody expected, in what is done here, ends all processes with code 1.
    """
    thread = threading.Thread(target=_watch, name="watch-others", daemon=True)
    if count() > 1:
        thread.start()
    is_done = False
    try:
        yield
        is_done = True
    finally:
        if not is_done and count() > 1:
            give_up(traceback.format_exc(), 1)
        _is_ending.set()
        if thread.is_alive():
            thread.join()


def _watch() -> None:
    while not _is_ending.wait(PERIOD):
        try:
            said = _store().key_value_dir_get(os.path.dirname(_FAILED))
        except jax.errors.JaxRuntimeError as error:
            logging.error("the main process is gone (%s); run again", str(error).partition("\n")[0])
            _leave(LOST)
        else:
            if said:
                _leave(int(said[0][1]))


def _leave(code: int) -> int:
    """Ends this process at once: an orderly end would wait for others, who may be gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _store().key_value_set(f"left/{index()}", "", allow_overwrite=True)
        end = time.monotonic() + GRACE
        while is_main() and time.monotonic() < end:
            if len(_store().key_value_dir_get("left")) == count():
                break
            time.sleep(0.05)
    os._exit(code)
