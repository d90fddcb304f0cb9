"""Work shared out to several processes of this machine; if one of them ends, so do the others."""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from rejepa_jax.types import ConfigError, DataError

Advance = Callable[[int], None]  # told how much more is done


def share_out(work: Callable[[int, Advance], None], processes: int, advance: Advance) -> None:
    """Calls `work(index, advance)` in so many new processes; `work` goes there as a copy.

    Raises:
      DataError, ConfigError: one of them raised it, or was ended from outside; all are ended then.
    """
    context = multiprocessing.get_context("spawn")
    done = context.RawArray(ctypes.c_int64, processes)  # by each; needs no lock
    errors = context.SimpleQueue()
    started = [
        context.Process(target=_run, args=(work, index, done, errors), daemon=True)
        for index in range(processes)
    ]
    try:
        for process in started:
            process.start()
        _watch(started, done, errors, advance)
    finally:
        for process in started:
            if process.pid is not None:
                process.kill()
                process.join()


def _watch(started: list[Any], done: Any, errors: Any, advance: Advance) -> None:
    running, counted = {process.sentinel: process for process in started}, 0
    while running:
        for sentinel in multiprocessing.connection.wait(list(running), timeout=1):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                raise _fault(process.exitcode, errors)
        if now := sum(done) - counted:
            advance(now)
            counted += now


def _fault(code: int, errors: Any) -> Exception:
    if not errors.empty():
        return errors.get()
    how = f"was ended from outside (signal {-code})" if code < 0 else f"ended with code {code}"
    return DataError(
        f"export: a process {how}, perhaps for want of memory; what it and the others had "
        "finished is kept: run again, with fewer --config.export.processes if memory is short"
    )


def _run(work: Callable[[int, Advance], None], index: int, done: Any, errors: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # on Ctrl-C end at once, without a word
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def advance(count: int) -> None:
        done[index] += count

    try:
        work(index, advance)
    except (ConfigError, DataError) as error:
        errors.put(error)
        raise SystemExit(1) from error


def _end_with_parent() -> None:
    """Ends a process whose parent was killed: nobody waits for what it writes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
