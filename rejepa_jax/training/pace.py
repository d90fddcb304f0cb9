"""How far the host runs ahead of the devices, and how long these had nothing to learn from.

The host hands out steps and does not wait for them, so that the devices never wait for the host.
But it must not hand out any number: each holds its batch. And how long it waited for data says
little: it may wait all the time, and for as long as the devices are busy that costs nothing.
"""

import concurrent.futures
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import jax

AHEAD = 2  # steps handed out and not yet done


class Pace:
    """Follows the steps of one run in a thread of its own; `close` ends it."""

    def __init__(self) -> None:
        self._watcher = concurrent.futures.ThreadPoolExecutor(1, "watch-steps")
        self._ends: deque[concurrent.futures.Future[float]] = deque()  # of the last steps
        self._lacked = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Encloses the wait for a batch, of which only the time after the last step counts."""
        start = time.monotonic()
        yield
        if self._ends and self._ends[-1].done():
            self._lacked += time.monotonic() - max(start, self._ends[-1].result())

    def follow(self, results: Any) -> None:
        """Takes note of a step by what comes of it; waits for the step `AHEAD` before."""
        self._ends.append(self._watcher.submit(_when_there, results))
        if len(self._ends) > AHEAD:
            self._ends.popleft().result()

    def lacked(self) -> float:
        """Returns the seconds in which the devices lacked data since this was last asked."""
        seconds, self._lacked = self._lacked, 0.0
        return seconds

    def close(self) -> None:
        """Lets go of the thread, which ends with the last step."""
        self._watcher.shutdown(wait=False)


def _when_there(results: Any) -> float:
    jax.block_until_ready(results)
    return time.monotonic()
