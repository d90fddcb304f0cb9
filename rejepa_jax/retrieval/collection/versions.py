"""Which version of a run is searched: one small file says so, replaced in one step.

    RUN/embeddings/, RUN/index/   version 0, what the stages made; never changed here
    RUN/updates/CURRENT           {"version": 7, "base": 4, "steps": [5, 6, 7], ...}
    RUN/updates/4/                a base: embeddings/ and index/ of all that was live then (merge)
    RUN/updates/5/                a step: embeddings/ of what was added (none after a deletion), and
                                  deleted.npy, all rows that are gone since the base
    RUN/updates/.lock             held by whoever makes the next version

A version is searched as its base, then each step's rows in order. Its directory is complete and on
the disk before CURRENT names it, so a crash leaves the old version or the new one. What no version
needs any more goes when the next one is made; a reader that just then opens it looks again.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator

from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.storage import mirror, readers
from rejepa_jax.storage.files import exists
from rejepa_jax.types import ConfigError, DataError

Path = pathlib.Path
SCHEMA = "rejepa-updates/1"
UPDATES, CURRENT, LOCK = "updates", "CURRENT", ".lock"


@dataclasses.dataclass(frozen=True)
class Version:
    """What CURRENT says; without such a file, what the stages made."""

    stages: str  # fingerprint of RUN/embeddings that this goes back to
    version: int = 0
    base: int = 0
    steps: tuple[int, ...] = ()  # since the base, in order
    mark: str = ""  # fingerprint of the version's manifest

    @property
    def needed(self) -> set[int]:
        """The numbers of the directories it consists of; 0 for what the stages made."""
        return {self.base, *self.steps}

    def base_of(self, run: Path) -> Path:
        """Returns where the embeddings and the index of the base are."""
        return step_of(run, self.base) if self.base else run


def step_of(run: Path, number: int) -> Path:
    """Returns the directory of a version."""
    return run / UPDATES / str(number)


def read_version(run: Path) -> Version:
    """Reads which version is current.

    Raises:
      FileNotFoundError: the stages have not finished.
      DataError: CURRENT is damaged, or the stages have made the embeddings anew since.
      ConfigError: the run is in a bucket and was changed there.
    """
    found = mirror.find(run)
    if found and exists(readers.join(mirror.address(run), UPDATES, CURRENT)):
        raise ConfigError(
            f"{mirror.address(run)} has been added to or deleted from, which a run in a bucket "
            f"does not serve; copy it here, or remove {UPDATES}/ there"
        )
    stages = artifacts.load(run / "embeddings", is_fetched=False)["fingerprint"]
    path = run / UPDATES / CURRENT
    if not path.exists():
        return Version(stages)
    said = artifacts.read_json(path)
    try:
        if said["schema"] != SCHEMA:
            raise ValueError(said["schema"])
        numbers = {name: int(said[name]) for name in ("version", "base")}
        steps = tuple(map(int, said["steps"]))
        current = Version(str(said["stages"]), steps=steps, mark=str(said["mark"]), **numbers)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: got {error!r}, expected {SCHEMA}; remove {path.parent}, then add and delete "
            "again"
        ) from error
    if current.stages != stages:
        raise DataError(
            f"{run / 'embeddings'} is {stages[:12]}, expected {current.stages[:12]}: it was made "
            f"anew since images were added or deleted. Remove {path.parent} to search the new one, "
            "then add and delete again"
        )
    return current


def name_of(run: Path, version: Version) -> str:
    """Names a version: its number, and a hash that is another one for any other content."""
    index = "" if version.base else artifacts.load(run / "index", is_fetched=False)["fingerprint"]
    content = [dataclasses.asdict(version), index]
    return f"{version.version}-{artifacts.fingerprint(content)[:12]}"


@contextlib.contextmanager
def writing(run: Path) -> Iterator[Version]:
    """Lets one process at a time make the version after the one yielded; tidies up first.

    Raises:
      ConfigError: another process is at it, or the run is in a bucket.
    """
    import fcntl  # not on Windows, where the rest works

    if mirror.find(run):
        raise ConfigError(f"{mirror.address(run)}: a run in a bucket cannot be changed; copy it")
    current = read_version(run)
    (run / UPDATES).mkdir(exist_ok=True)
    with (run / UPDATES / LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ConfigError(
                f"{run / UPDATES}: got a second writer while process {lock.read() or '?'} is "
                "changing the run, expected one at a time; wait for it"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        current = read_version(run)  # as it is now that nobody else changes it
        _tidy(run, current)
        yield current


def _tidy(run: Path, current: Version) -> None:
    """Removes versions that are not needed, and what an interruption left."""
    keep = {str(number) for number in current.needed}
    for path in (run / UPDATES).iterdir():
        if path.is_dir() and path.name not in keep:
            shutil.rmtree(path)


def publish(run: Path, version: Version) -> None:
    """Makes a complete version the current one, once all of it is on the disk."""
    directory = step_of(run, version.version)
    for path in [*directory.rglob("*"), directory, directory.parent]:
        _sync(path)
    content = {"schema": SCHEMA, **dataclasses.asdict(version)}
    artifacts.write_json(run / UPDATES / CURRENT, content)
    _sync(run / UPDATES)
    logging.info("%s: version %d is current", run, version.version)


def _sync(path: Path) -> None:
    """Waits until a file, or a directory's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
