"""Asked to stop (SIGTERM, Ctrl-C), training ends after a step, the same one in every process."""

import os
import signal
from types import FrameType, TracebackType
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Takes the first signal as a request and leaves the second to whoever handled it before.

    With several processes JAX has SIGTERM, since they have met, and agrees with the others on the
    next step that all of them reach, counted from the first that is asked for.
    """

    def __init__(self) -> None:
        self._asked, self._first = "", 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Stopping":
        ours = SIGNALS[1:] if jax.distributed.is_initialized() else SIGNALS
        self._before = {name: signal.signal(name, self._take) for name in ours}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._give_back()

    def reached(self, step: int) -> bool:
        """Whether this is the step after which to save and stop; to be asked after every step."""
        if jax.distributed.is_initialized():
            self._first = self._first or step
            return multihost_utils.reached_preemption_sync_point(step - self._first + 1)
        return bool(self._asked)

    def _take(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._asked = signal.Signals(number).name
        self._give_back()
        logging.warning(
            "%s: saving after this step, then ending; a second one ends at once", self._asked
        )
        if jax.distributed.is_initialized():
            os.kill(os.getpid(), signal.SIGTERM)  # which tells the others

    def _give_back(self) -> None:
        for name, before in self._before.items():
            signal.signal(name, before)
        self._before = {}
