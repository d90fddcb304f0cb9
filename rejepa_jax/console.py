"""What a person sees while a stage works and when the run is over; the only place that prints."""

import logging as standard_logging
import pathlib
import sys
import time

from absl import logging

OURS = str(pathlib.Path(__file__).parent) + "/"


def set_up_logging() -> None:
    """Shows our own messages, and of the libraries beneath us only warnings and errors."""
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    handler = logging.get_absl_handler().python_handler
    handler.setFormatter(standard_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda r: r.levelno >= standard_logging.WARNING or OURS in r.pathname)


class Progress:
    """Counts work done and shows rate and time left: one moving line, or plain lines in a log."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0):
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._start, self._first = time.monotonic(), done
        self._shown = self._start
        self._is_terminal = sys.stderr.isatty()

    def advance(self, count: int) -> None:
        """Adds to what is done."""
        self.update(self.done + count)

    def update(self, done: int, note: str = "") -> None:
        """Sets how much is done; shows it every second, or every ten without a terminal."""
        self.done = done
        now = time.monotonic()
        if done < self.total and now - self._shown < (1 if self._is_terminal else 10):
            return
        self._shown = now
        text = self._text(now, note)
        end = "\r" if self._is_terminal and done < self.total else "\n"
        sys.stderr.write(("\x1b[2K" if self._is_terminal else "") + text + end)
        sys.stderr.flush()

    def _text(self, now: float, note: str) -> str:
        rate = (self.done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        ending = (
            f"took {now - self._start:.0f} s" if self.done >= self.total else f"{_clock(left)} left"
        )
        share = 100 * self.done / max(self.total, 1)
        parts = [f"{self.label} {self.done}/{self.total} {self.unit} ({share:.0f} %)"]
        parts += [f"{rate:.1f} {self.unit}/s", ending, note]
        return "  ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def say(text: str) -> None:
    """Prints a result to standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(rows: list[list[str]]) -> str:
    """Lays rows out in columns under the first as heading; columns of numbers are right-aligned."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    padded = []
    for column in columns:
        width = max(map(len, column))
        is_text = any(cell and not cell.lstrip("-")[:1].isdigit() for cell in column[1:])
        padded.append([cell.ljust(width) if is_text else cell.rjust(width) for cell in column])
    lines = ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
