"""Commands of other programs (gcloud, kubectl ...): run, read, or only printed.

Every command is a list of words and never a line that a shell would take apart; a line is made only
to be printed, quoted so that it can be copied and run.
"""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

# What a cloud says when asking again may help: nothing was decided yet. A quota, a lack of machines
# or a right that is missing is an answer, and not asked for again here.
TRANSIENT = re.compile(
    "http error (429|50[0234])|unavailable|internal error|ratelimitexceeded|unexpected eof"
    "|deadline[ _]exceeded|timeout|tls handshake|connection (reset|aborted|refused|timed out)"
    "|temporary failure in name resolution",
    re.IGNORECASE,
)
TOO_LONG = 124  # the exit code that stands for a command without an answer


class LaunchError(Exception):
    """What ends a verb: a sentence, and the exit code (1 failed, 2 usage, 75 try again)."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command said, and its exit code (124: it took too long)."""

    code: int = 0
    out: str = ""
    err: str = ""


def quote(argv: Sequence[str]) -> str:
    """Returns one line for a POSIX shell that gives exactly these words."""
    return shlex.join(argv)


def is_transient(result: Result) -> bool:
    """Whether asking again may help."""
    return result.code == TOO_LONG or (result.code != 0 and bool(TRANSIENT.search(result.err)))


@dataclasses.dataclass
class Shell:
    """Runs commands, or under `dry_run` only prints them.

    A command that fails in passing is given again after each of the `pauses` (seconds).
    """

    dry_run: bool = False
    out: TextIO = dataclasses.field(default_factory=lambda: sys.stdout)
    pauses: Sequence[float] = (2, 5, 15, 30)
    sleep: Callable[[float], None] = time.sleep

    def say(self, text: str) -> None:
        """Tells the operator something; in a dry run as a comment, so that the rest can be run."""
        for line in text.splitlines():
            self.out.write(f"# {line}\n" if self.dry_run else f"{line}\n")
        self.out.flush()

    def report(self, text: str) -> None:
        """Says what has happened; nothing in a dry run, in which nothing does."""
        if not self.dry_run:
            self.say(text)

    def run(self, argv: Sequence[str], *, timeout: float = 600, stdin: str | None = None) -> Result:
        """Runs a command that changes something.

        Raises:
            LaunchError: it failed; with what it said.
        """
        result = self.attempt(argv, timeout=timeout, stdin=stdin)
        return self._checked(argv, result)

    def attempt(
        self, argv: Sequence[str], *, timeout: float = 600, stdin: str | None = None
    ) -> Result:
        """Runs a command that changes something; the caller decides what a failure means."""
        self._show(argv, stdin)
        return Result() if self.dry_run else self._insist(argv, timeout, stdin)

    def capture(self, argv: Sequence[str], *, pretend: str = "", timeout: float = 120) -> Result:
        """Runs a command that only reads; in a dry run it is printed and `pretend` is its answer.

        The caller decides what a failure means: that a thing is not there is an answer too.
        """
        if self.dry_run:
            self._show(argv, None)
            return Result(out=pretend)
        return self._insist(argv, timeout, None)

    def read(self, argv: Sequence[str], *, pretend: str = "", timeout: float = 120) -> str:
        """`capture` where a failure is an error; returns what was said."""
        return self._checked(argv, self.capture(argv, pretend=pretend, timeout=timeout)).out

    def follow(self, *commands: Sequence[str]) -> int:
        """Hands the terminal to commands (logs that go on, a shell) until all of them end.

        Returns the highest of their exit codes.
        """
        for argv in commands:
            self._show(argv, None)
        if self.dry_run:
            return 0
        running = []
        try:
            running += [_start(argv) for argv in commands]
            return max((process.wait() for process in running), default=0)
        finally:
            for process in running:
                process.terminate()

    def pause(self, seconds: float, why: str) -> None:
        """Waits; a dry run says only for what."""
        if self.dry_run:
            self.say(f"waits {seconds:g} s: {why}")
        else:
            self.sleep(seconds)

    def _show(self, argv: Sequence[str], stdin: str | None) -> None:
        # A here-document whose end mark is quoted: the shell changes nothing in it.
        fed = "" if stdin is None else f" <<'END'\n{stdin.rstrip()}\nEND"
        self.out.write(f"{'' if self.dry_run else '+ '}{quote(argv)}{fed}\n")
        self.out.flush()

    def _insist(self, argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
        for pause in self.pauses:
            result = _once(argv, timeout, stdin)
            if result.code == TOO_LONG or not is_transient(result):  # it has had its time
                return result
            self.say(f"{argv[0]} failed in passing, again in {pause:g} s: {_last_line(result.err)}")
            self.sleep(pause)
        return _once(argv, timeout, stdin)

    @staticmethod
    def _checked(argv: Sequence[str], result: Result) -> Result:
        if result.code == 0:
            return result
        said = (result.err or result.out).strip() or "it said nothing"
        code = 75 if is_transient(result) else 1
        raise LaunchError(f"exit code {result.code} of: {quote(argv)}\n{said}", code)


def _start(argv: Sequence[str]) -> subprocess.Popen:
    try:
        return subprocess.Popen(list(argv))
    except FileNotFoundError:
        raise _missing(argv[0]) from None


def _once(argv: Sequence[str], timeout: float, stdin: str | None) -> Result:
    # What is captured cannot be answered: no program may ask, or wait for the terminal.
    fed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    try:
        done = subprocess.run(
            list(argv),
            **fed,
            env=os.environ | {"CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise _missing(argv[0]) from None
    except subprocess.TimeoutExpired:
        return Result(TOO_LONG, "", f"no answer within {timeout:g} s")
    return Result(done.returncode, done.stdout, done.stderr)


def _missing(program: str) -> LaunchError:
    return LaunchError(f"{program}: not found on PATH; install it, then try again", 2)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
