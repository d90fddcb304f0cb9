"""Ends a process whose training no longer gets on: nothing can be said to what waits for ever."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType

from absl import logging

EXIT_CODE = 75  # run again


class Watchdog:
    """Looks on from a thread of its own; `alive` is to be called after every step."""

    def __init__(self, seconds: int):
        self._seconds = seconds  # 0 = look away
        self._steps, self._last = 0, time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._seconds:
            self._last = time.monotonic()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._is_over.set()

    def alive(self) -> None:
        """Takes note that another step is done."""
        self._steps, self._last = self._steps + 1, time.monotonic()

    def _watch(self) -> None:
        while (left := self._last + self._seconds - time.monotonic()) > 0:
            if self._is_over.wait(left):
                return
        self._end()

    def _end(self) -> None:
        logging.error(
            "no step for %d s, after %d steps of this process: a device, the data or another "
            "process hangs (train.hang_timeout). It ends now; run the same command again to go on "
            "from the last checkpoint. What its threads were doing:",
            self._seconds,
            self._steps,
        )
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        os._exit(EXIT_CODE)
