"""Things in the cloud that carry the name of a job, and the mark that we made them.

Someone else's of the same name is never used and never deleted.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable
from typing import Any

from cloud.commands import LaunchError, Result, Shell, is_transient

LABEL = "rejepa-job"
DELETING = 1800  # seconds
DENIED = re.compile("PERMISSION_DENIED|Required '[^']+' permission")


@dataclasses.dataclass(frozen=True)
class Thing:
    """One thing: what it is, its name, and the commands that describe and delete it."""

    kind: str
    name: str
    describe: list[str]
    delete: list[str]

    def __str__(self):
        return f"{self.kind} {self.name}"

    @property
    def place(self) -> str:
        """Where it is looked for: project, and zone or region."""
        where = ("--project=", "--zone=", "--region=")
        return " ".join(word for word in self.describe if word.startswith(where))


def mark(job: str) -> str:
    """Returns the description that everything gets that is made for a job."""
    return f"{LABEL}={job}"


def is_marked(found: Any, job: str) -> bool:
    """Whether a description, or a part of it, says that we made the thing for this job."""
    if isinstance(found, list):
        return any(is_marked(part, job) for part in found)
    if not isinstance(found, dict):
        return False
    labels = found.get("labels") or {}
    is_here = found.get("description") == mark(job) or labels.get(LABEL) == job
    return is_here or any(is_marked(part, job) for part in found.values())


def is_absent(result: Result, name: str) -> bool:
    """Whether a command failed because just this thing does not exist; not its zone, say."""
    said = re.search(rf"/{re.escape(name)}['\"]? was not found", result.err)
    return result.code != 0 and bool(said)


def look(shell: Shell, thing: Thing, *, pretend: str = "{}") -> dict[str, Any] | None:
    """Describes a thing; None if there is none.

    Raises:
        LaunchError: it cannot be told (75; 1 where a right is missing).
    """
    result = shell.capture([*thing.describe, "--format=json"], pretend=pretend)
    if is_absent(result, thing.name):
        return None
    return read_json(result, f"{thing}")


def read_json(result: Result, what: str) -> Any:
    """Reads the JSON that a command answered, whatever else it says before it.

    Raises:
        LaunchError: it failed, or answered something else (75; 1 where a right is missing).
    """
    if result.code:
        code = 1 if DENIED.search(result.err) else 75
        raise LaunchError(f"{what}: {result.err.strip()}", code)
    try:
        return json.loads(re.sub(r"\A[^\[{]*^(?=[\[{])", "", result.out, flags=re.MULTILINE))
    except ValueError:
        got = f"got {result.out.strip()[:200]!r}, expected JSON"
        raise LaunchError(f"{what}: {got}", 75) from None


def require_ours(shell: Shell, thing: Thing, job: str) -> None:
    """Raises a LaunchError if someone else has a thing of this name already."""
    if not is_marked(look(shell, thing), job):
        raise LaunchError(f"{thing} is there and was not made here; take another name", 2)


def remove(shell: Shell, thing: Thing, job: str, *, unmarked: bool = False) -> None:
    """Deletes a thing of ours; one that is not there is fine.

    Raises:
        LaunchError: it is not ours, or it may still be there.
    """
    found = look(shell, thing, pretend=json.dumps({"description": mark(job)}))
    if found is None:
        shell.report(f"{thing}: was not there ({thing.place})")
        return
    if not is_marked(found, job) and not unmarked:
        raise LaunchError(
            f"{thing} was not made here (no description {mark(job)!r}): left as it is; --unmarked"
            " deletes it all the same"
        )
    result = shell.attempt(thing.delete, timeout=DELETING)
    if result.code and not is_absent(result, thing.name):
        code = 75 if is_transient(result) else 1
        raise LaunchError(f"{thing} may NOT be deleted, and cost: {result.err.strip()}", code)
    shell.report(f"{thing}: deleted")


def youngest(shell: Shell, things: Iterable[Thing], key: str) -> str:
    """Returns the latest time, RFC 3339, of those that are there; "" if none is."""
    found = [look(shell, thing) or {} for thing in things]
    times = [thing[key] for thing in found if key in thing]
    return max(times, key=datetime.datetime.fromisoformat, default="")
