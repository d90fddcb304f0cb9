"""Checkpoints as files: each is whole, with the sha256 of every file in it, or it is not there.

    STEP/              a checkpoint; `sha256.json` has the hash of every other file
    STEP.saving...     one that is being written, or was when its process ended
    STEP.old           one that is being removed

Nothing here depends on a clock: what is newer has the larger step.
"""

import json
import os
import pathlib
import shutil

from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.storage import fetching, files, keeping
from rejepa_jax.types import DataError

HASHES = "sha256.json"
SAVING, OLD, DAMAGED = ".saving", ".old", ".damaged"

Path = pathlib.Path


def saved_steps(directory: Path) -> list[int]:
    """Returns the steps of which there is a checkpoint, in order."""
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit())


def seal(directory: Path, step: int) -> None:
    """Makes what has been written the checkpoint of its step."""
    saving = directory / f"{step}{SAVING}"
    names = sorted(p.relative_to(saving).as_posix() for p in saving.rglob("*") if p.is_file())
    hashes = files.each(lambda name: artifacts.sha256_file(saving / name), names)
    artifacts.write_json(saving / HASHES, dict(zip(names, hashes, strict=True)))
    _sync(saving)
    saving.rename(directory / str(step))
    _sync(directory)


def retire(directory: Path, keep: int, keep_every: int) -> None:
    """Removes all checkpoints but the last, `keep` before it, and those of every so many steps."""
    for step in saved_steps(directory)[: -(keep + 1)]:
        if not keep_every or step % keep_every:
            (directory / str(step)).rename(directory / f"{step}{OLD}")
            shutil.rmtree(directory / f"{step}{OLD}")


def sweep(directory: Path) -> None:
    """Removes what a process that has ended was writing, or removing."""
    for path in directory.glob("*"):
        number, dot, ending = path.name.partition(".")
        if number.isdigit() and (dot + ending).startswith((SAVING, OLD)):
            shutil.rmtree(path)


def newest_good(directory: Path, is_strict: bool) -> int | None:
    """Returns the last step whose checkpoint has not changed by a bit; None if none was saved.

    Later ones, which have, are set aside, so that the run can save these steps again.

    Raises:
        DataError: all have changed, or one has and `is_strict`.
    """
    steps, damaged = saved_steps(directory), []
    for step in reversed(steps):
        fault = find_fault(directory / str(step))
        if fault and _bring_again(directory, step):
            logging.error("%s; it has been brought from the bucket again", fault)
            fault = find_fault(directory / str(step))
        if not fault:
            break
        if is_strict:
            raise DataError(
                f"{fault}; refused by train.strict_restore = True: bring {directory / str(step)} "
                "back from a copy, or allow an earlier checkpoint with "
                "--config.train.strict_restore=False"
            )
        logging.error("%s", fault)
        damaged.append(step)
    if not damaged:
        return steps[-1] if steps else None
    if len(damaged) == len(steps):
        raise DataError(
            f"{directory}: got no checkpoint that is whole (damaged: those of steps "
            f"{', '.join(map(str, damaged))}), expected one; bring one back from a copy, or give "
            "another --workdir to train from the start"
        )
    for step in damaged:
        where = set_aside(directory, step)
        keeping.forget(directory / str(step))
        logging.error("the damaged checkpoint of step %d is now %s", step, where)
    good = steps[-1 - len(damaged)]
    lost = steps[-1] - good
    logging.error("going on from step %d: %d steps are lost, and trained again", good, lost)
    return good


def _bring_again(directory: Path, step: int) -> bool:
    """Sets a damaged checkpoint aside if the bucket has another copy, and brings that."""
    if not keeping.kept_folders(directory).get(str(step)):
        return False
    set_aside(directory, step)
    fetching.resume(directory, artifacts.BEGUN)
    return True


def last_whole(directory: Path) -> int:
    """Returns the last step of a run that is finished.

    Raises:
        FileNotFoundError: there is none.
        DataError: its checkpoint has changed.
    """
    steps = saved_steps(directory)
    if not steps:
        raise FileNotFoundError(f"{directory} holds no checkpoint; run the train stage again")
    if fault := find_fault(directory / str(steps[-1])):
        raise DataError(f"{fault}; remove {directory} and run again to make it anew")
    return steps[-1]


def find_fault(checkpoint: Path) -> str:
    """Returns what is wrong with the files of a checkpoint, having read every byte; "" if nothing.

    The first fault by name, with the hash that was found and the one that was expected.
    """
    try:
        expected = artifacts.read_json(checkpoint / HASHES)
    except FileNotFoundError:
        return f"{checkpoint / HASHES}: got no file, expected the hashes of the checkpoint"
    except DataError as error:
        return str(error)
    if not isinstance(expected, dict) or not all(map(_is_inside, expected)):
        return f"{checkpoint / HASHES}: got {json.dumps(expected)[:80]}, expected hashes by name"
    found = files.each(lambda name: _hash(checkpoint / name), expected)
    for (name, digest), got in zip(expected.items(), found, strict=True):
        if got != digest:
            return f"{checkpoint / name}: got {got}, expected sha256 {digest}"
    return ""


def _is_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def _hash(path: Path) -> str:
    try:
        return artifacts.sha256_file(path)
    except OSError as error:
        return f"{error.strerror or error}"


def set_aside(directory: Path, step: int) -> Path:
    """Moves a checkpoint out of the way, beside the run's checkpoints; returns where it is now."""
    name = directory.name.removesuffix(".partial") + DAMAGED
    folder = directory.with_name(name)
    folder.mkdir(exist_ok=True)
    names = (str(step), *(f"{step}-{number}" for number in range(2, 1 << 20)))
    where = next(folder / name for name in names if not (folder / name).exists())
    (directory / str(step)).rename(where)
    _sync(directory)
    return where


def _sync(directory: Path) -> None:
    """Waits until a directory's list of names is on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
