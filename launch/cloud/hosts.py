"""What the hosts say of themselves, and what it means for the run as a whole.

Each host ends in one line, `rejepa HOST WORD ...` (host.sh). The exit code of a command that went
to many hosts is one number for all of them, or that of the program that carried it: it is not read.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from cloud.backend import State, Status
from cloud.commands import LaunchError, Result

AGAIN = 75  # main's exit code for: saved, run it again
LOST = 137  # as if killed: nobody was left to write the exit code


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one host said."""

    host: str
    word: str
    text: str


def answers(results: Iterable[Result]) -> list[Answer]:
    """Finds what hosts said among all that was printed on the way."""
    said = "\n".join(f"{result.out}\n{result.err}" for result in results)
    found = re.findall(r"^rejepa (\S+) (\S+) ?(.*)$", said, re.MULTILINE)
    return sorted((Answer(*words) for words in found), key=lambda answer: answer.host)


def require(
    found: Sequence[Answer], wanted: int, word: str, results: Iterable[Result], digest: str
) -> None:
    """Raises a LaunchError that names every host that did not come to `word` with this bundle."""
    good = [a for a in found if a.word == word]
    bad = [f"{a.host}: {a.word} {a.text}".rstrip() for a in found if a.word != word]
    bad += [f"{a.host}: has another {a.text}" for a in good if f"bundle {digest}" not in a.text]
    bad += _unlike(good)
    if len(found) < wanted:
        said = [line for r in results for line in (r.err or r.out).strip().splitlines()[-3:]]
        bad.append(f"{wanted - len(found)} of {wanted} hosts did not answer: " + " | ".join(said))
    if bad:  # silence alone may pass; what a host says does not
        silent = len(bad) == 1 and len(found) < wanted
        raise LaunchError("\n".join([f"not all hosts are {word}:", *bad]), 75 if silent else 1)


def _unlike(found: Sequence[Answer]) -> list[str]:
    """The hosts whose report is not that of most: another Python, another version."""
    texts = [a.text for a in found]
    usual = max(texts, key=texts.count, default="")
    return [f"{a.host}: unlike most: {a.text}" for a in found if a.text != usual]


def judge(found: Sequence[Answer], wanted: int) -> Status:
    """Returns where the run stands, of what its hosts say.

    Raises:
        LaunchError: some are silent (75: perhaps in passing).
    """
    if len(found) < wanted:
        here = ", ".join(a.host for a in found) or "none"
        raise LaunchError(f"{wanted - len(found)} of {wanted} hosts are silent; heard: {here}", 75)
    words = {a.word for a in found}
    codes = [_code(a) for a in found if a.word in ("done", "lost")]
    last = _last_metrics(found)
    step, detail = last.get("step", 0), _progress(last)
    if "running" in words:
        ended = [a.host for a in found if a.word != "running"]
        detail += f"; not running any more on {', '.join(ended)}" if ended else ""
        return Status(State.RUNNING, worst(codes or [0]) if ended else None, detail, step)
    if words == {"idle"}:
        return Status(State.READY, None, f"{wanted} hosts, nothing has run")
    if words <= {"done", "lost", "idle"}:
        named = ", ".join(_ending(a) for a in found)
        code = worst(codes)
        return Status(State.DONE, code, f"{detail}; {named}" if code else detail, step)
    strange = next(a for a in found if a.word not in ("running", "done", "lost", "idle"))
    raise LaunchError(f"{strange.host}: {strange.word} {strange.text}")


def without_others(status: Status, found: Sequence[Answer], task: str) -> Status:
    """Returns the status, in which the end of another command than `task` is none of ours."""
    others = [a.host for a in found if a.word != "idle" and f"task {task}" not in a.text]
    if not others:
        return status
    detail = f"{status.detail}; another config or command than this on {', '.join(others)}"
    if status.state is State.DONE:
        return Status(State.READY, None, f"{detail} has ended")
    return dataclasses.replace(status, detail=detail)


def _ending(answer: Answer) -> str:
    code = f" {_code(answer)}" if answer.word == "done" else ""
    return f"{answer.host}: {answer.word}{code}"


def _code(answer: Answer) -> int:
    return int(answer.text.split(" ")[0]) if answer.word == "done" else LOST


def worst(codes: Sequence[int]) -> int:
    """Returns the exit code of the run: what must be mended by someone comes before what passes."""
    mistakes = [code for code in codes if 0 < code < 128 and code != AGAIN]
    if mistakes:
        return max(mistakes)
    return next((code for code in codes if code), 0)


def is_passing(code: int) -> bool:
    """Whether running it again is the answer: it was asked to stop, or killed by a signal."""
    return code == AGAIN or code >= 128


def _last_metrics(found: Sequence[Answer]) -> dict[str, Any]:
    """What was logged last, by the one host whose process does."""
    for answer in found:
        start = answer.text.find("{")
        if start >= 0:
            try:
                return json.loads(answer.text[start:])
            except json.JSONDecodeError:  # it was being written
                continue
    return {}


def _progress(last: dict[str, Any]) -> str:
    loss = last.get("loss")
    step = f"step {last['step']}" if "step" in last else "no step logged yet"
    return step + (f", loss {loss:.4f}" if isinstance(loss, float) else "")
