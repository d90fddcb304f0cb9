"""What every stage leaves behind: a directory that describes itself.

A stage works in `NAME.partial/` and, when all its files are there, writes `manifest.json` (files
with size and sha256, settings, fingerprints of its inputs, versions) and renames the directory to
`NAME/`. The manifest is the only mark of completeness, the rename the only act of publication, so
whatever interrupts a stage leaves either the old artefact, or none, or the new one. A run in a
bucket has a mirror on this machine (`storage.mirror`), and of the two the bucket comes first.
"""

import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

import rejepa_jax
from rejepa_jax.storage import fetching, files, keeping, mirror
from rejepa_jax.storage.json_files import plain, read_json, write_json
from rejepa_jax.types import ConfigError, DataError

MANIFEST = mirror.MANIFEST
BEGUN = "begun.json"  # in an unfinished artefact: what it is being made from
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scann")


@dataclasses.dataclass(frozen=True)
class Built:
    """What a stage reports of its work: facts for the manifest, and hashes it already knows."""

    info: dict[str, Any]
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)


def run_stage(
    directory: pathlib.Path,
    settings: dict[str, Any],
    inputs: dict[str, Any],
    build: Callable[[pathlib.Path], Built],
    is_judge: bool = False,
) -> dict[str, Any]:
    """Returns the manifest of `directory`, building it first unless it is complete and unchanged.

    `build(partial)` fills the directory it is given; after an interruption it is called again with
    the same directory and goes on from what it finds there. An artefact whose inputs changed (an
    earlier stage was built anew) is built again and replaced at the end; one whose settings
    changed is refused. What an interrupted build left is started again if inputs have changed
    since, unless `build` is the judge of what still holds.

    In a mirror, the files of what is complete stay in the bucket; before something is built, those
    of all that is complete beside it are brought here.

    Raises:
        ConfigError: the artefact, or the unfinished one, was made with other settings, or something
            that is not ours is in the way.
        DataError: a file of the complete artefact is missing or has another size.
    """
    settings, inputs = plain(settings), plain(inputs)
    name = directory.name
    refuse_stranger(directory)
    if (directory / MANIFEST).exists():
        manifest = load(directory, is_fetched=False)
        refuse_changes(directory, manifest["settings"], settings)
        if manifest["inputs"] == inputs:
            logging.info("%s: complete and unchanged, skipped", name)
            return manifest
        logging.warning("%s: what it was made from has changed; making it again", name)
    partial = directory.with_name(name + mirror.PARTIAL)
    refuse_stranger(partial)
    refuse_stranger(old(directory))
    if not (partial / MANIFEST).exists():
        fetching.resume(partial, BEGUN)
    if not _is_finished(partial, settings, inputs):
        is_new = not partial.exists()
        _open_partial(partial, settings, inputs, is_judge)
        for other in fetching.others(directory):
            load(other)
        try:
            built = build(partial)
        except (ConfigError, DataError) as error:
            if is_new and (isinstance(error, ConfigError) or _is_empty(partial)):
                _remove(partial)  # refused before anything was done: leave no trace
            raise
        _write_manifest(partial, name, settings, inputs, built)
    publish(partial, directory)
    logging.info("%s: done", name)
    return load(directory, is_fetched=False)


def _is_empty(partial: pathlib.Path) -> bool:
    return [path.name for path in partial.rglob("*") if path.is_file()] == [BEGUN]


def _is_finished(partial: pathlib.Path, settings: dict[str, Any], inputs: dict[str, Any]) -> bool:
    """Whether all that is left to do is to publish, as after a crash between the two renames."""
    if not (partial / MANIFEST).exists():
        return False
    manifest = read_json(partial / MANIFEST)
    refuse_changes(partial, manifest["settings"], settings)
    return manifest["inputs"] == inputs


def _open_partial(
    partial: pathlib.Path, settings: dict[str, Any], inputs: dict[str, Any], is_judge: bool
) -> None:
    """Makes the directory, or keeps what an interrupted build with these inputs left in it."""
    begun = partial / BEGUN
    if begun.exists():
        before = read_json(begun)
        refuse_changes(partial, before["settings"], settings)
        if before["inputs"] == inputs:
            logging.info("%s: going on where it stopped", partial.name)
            return
        what = "looking what still holds" if is_judge else "starting it again"
        logging.warning("%s: what it was made from has changed; %s", partial.name, what)
    if partial.exists() and not (is_judge and begun.exists()):
        _remove(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_json(begun, {"settings": settings, "inputs": inputs})
    keeping.keep(begun)


def _remove(partial: pathlib.Path) -> None:
    keeping.forget(partial)
    remove(partial)


def remove(directory: pathlib.Path) -> None:
    """Removes what is ours, its mark last: what a crash leaves of it is still known as ours."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (BEGUN, MANIFEST):
            path.unlink()
    shutil.rmtree(directory)


def refuse_stranger(path: pathlib.Path) -> None:
    """Raises a ConfigError if what is there might be somebody's work, and would be replaced.

    Ours is what has a manifest or the mark of a build that was begun, and all of a mirror; an empty
    directory is nobody's.
    """
    if not os.path.lexists(path) or mirror.find(path) or _is_ours(path):
        return
    what = "a folder with other things in it" if path.is_dir() else "a file"
    raise ConfigError(
        f"{path}: got {what} there, expected nothing, an empty folder or one that was made here "
        "before; give another directory, or move that away"
    )


def _is_ours(path: pathlib.Path) -> bool:
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    marks = [read_json(path / name) for name in (MANIFEST, BEGUN) if name in names]
    keys = [mark.keys() for mark in marks if isinstance(mark, dict)]
    is_marked = any(known >= {"settings", "inputs"} for known in keys)
    return is_marked or names <= {BEGUN + ".tmp"}  # which an interruption left all alone


def old(directory: pathlib.Path) -> pathlib.Path:
    """Returns where an artefact stands for the moment in which another takes its place."""
    return directory.with_name(directory.name + ".old")


def refuse_changes(where: pathlib.Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises a ConfigError that names each setting in which two sets of them differ."""
    old, new = _flat(before), _flat(now)
    changes = [
        f"{key}: {old.get(key, '(unset)')!r} -> {new.get(key, '(unset)')!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changes:
        raise ConfigError(
            f"{mirror.address(where)} was made with other settings ({'; '.join(changes[:8])}). "
            "Give another --workdir to keep both, restore the settings, or remove it to make it "
            "again."
        )


def _write_manifest(
    partial: pathlib.Path, name: str, settings: dict[str, Any], inputs: dict[str, Any], built: Built
) -> None:
    for cut_short in partial.rglob("*.tmp"):  # by an interruption, and written anew since
        cut_short.unlink()
    paths = [path for path in partial.rglob("*") if path.is_file() and path != partial / BEGUN]
    sizes = {path.relative_to(partial).as_posix(): path.stat().st_size for path in paths}
    # What a stage left in the bucket is known by its hash; anything else there is of no account.
    sizes |= {file: size for file, size in fetching.away(partial).items() if file in built.sha256}
    found = {
        file: {
            "bytes": sizes[file],
            "sha256": built.sha256.get(file) or sha256_file(partial / file),
        }
        for file in sorted(sizes)
    }
    content = {"stage": name, "settings": settings, "files": found}
    manifest = {
        "fingerprint": fingerprint(content),  # of what it is, not of what it came from
        **content,
        "inputs": inputs,
        "info": plain(built.info),
        "versions": versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_json(partial / MANIFEST, manifest)
    (partial / BEGUN).unlink(missing_ok=True)


def publish(partial: pathlib.Path, directory: pathlib.Path) -> None:
    """Renames `partial` to `directory`; what stood there goes only once the new one is in place.

    In a mirror the bucket comes first: what is complete here is complete there.

    Raises:
        ConfigError: something that is not ours is in the way.
    """
    before = old(directory)
    refuse_stranger(directory)
    refuse_stranger(before)
    keeping.publish(partial, directory, read_json(partial / MANIFEST)["files"])
    if before.exists():
        remove(before)
    if directory.exists():
        directory.rename(before)
    partial.rename(directory)
    keeping.forget(partial)
    if before.exists():
        remove(before)


def load(directory: pathlib.Path, is_fetched: bool = True) -> dict[str, Any]:
    """Returns a complete artefact's manifest after checking that its files are all there.

    In a mirror, files that are not here are brought from the bucket, unless `is_fetched` is false.

    Raises:
        FileNotFoundError: there is no manifest, so the stage has not finished.
        DataError: a file is missing or its size is not the manifest's.
    """
    path = directory / MANIFEST
    if not path.exists():
        raise FileNotFoundError(
            f"{mirror.address(directory)} has no {MANIFEST}: the stage that makes it has not "
            "finished; run `python -m rejepa_jax.main` with the run's config and --workdir again"
        )
    manifest = read_json(path)
    expected = manifest["files"]
    paths = {name: directory / name for name in expected}
    sizes = {name: path.stat().st_size for name, path in paths.items() if path.is_file()}
    wrong = {name: entry for name, entry in expected.items() if sizes.get(name) != entry["bytes"]}
    if wrong:
        sizes |= fetching.complete(directory, wrong, is_fetched)
    for name, entry in wrong.items():
        if sizes.get(name) != entry["bytes"]:
            got = f"{sizes[name]} bytes" if name in sizes else "no file"
            raise DataError(
                f"{mirror.address(paths[name])}: got {got}, expected {entry['bytes']} bytes; "
                f"remove {mirror.address(directory)} and run again to make it anew"
            )
    return manifest


def verify(directory: pathlib.Path) -> list[str]:
    """Returns the faults of a complete artefact, re-reading every byte; empty when it is whole.

    Of a mirror, the bytes in the bucket are read; they are not kept.
    """
    try:
        manifest = load(directory, is_fetched=False)
    except (DataError, FileNotFoundError) as error:
        return [str(error)]
    faults = []
    for name, entry in manifest["files"].items():
        where = mirror.address(directory / name)
        digest = files.sha256(where)
        if digest != entry["sha256"]:
            faults.append(f"{where}: sha256 {digest}, expected {entry['sha256']}")
    content = {key: manifest[key] for key in ("stage", "settings", "files")}
    if fingerprint(content) != manifest["fingerprint"]:
        faults.append(f"{directory / MANIFEST}: its fingerprint does not match its content")
    return faults


def fingerprint(content: Any) -> str:
    """Returns the sha256 of a JSON value in canonical form."""
    text = json.dumps(plain(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: pathlib.Path) -> str:
    """Returns the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions that a reader would need to repeat a result."""
    out = {"rejepa_jax": rejepa_jax.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def _flat(content: Any, path: str = "") -> dict[str, Any]:
    if isinstance(content, dict):
        items = [_flat(value, f"{path}.{key}" if path else key) for key, value in content.items()]
        return {key: value for item in items for key, value in item.items()}
    return {path: content}
