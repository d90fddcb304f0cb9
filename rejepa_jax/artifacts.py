"""What every stage leaves behind: a directory that describes itself.

A stage works in `NAME.partial/` and, when all its files are there, writes `manifest.json` (files
with size and sha256, settings, fingerprints of its inputs, versions) and renames the directory to
`NAME/`. The manifest is the only mark of completeness, the rename the only act of publication, so
whatever interrupts a stage leaves either the old artefact, or none, or the new one.
"""

import dataclasses
import datetime
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
from rejepa_jax.types import ConfigError, DataError

MANIFEST = "manifest.json"
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
) -> dict[str, Any]:
    """Returns the manifest of `directory`, building it first unless it is complete and unchanged.

    `build(partial)` fills the directory it is given; after an interruption it is called again with
    the same directory and goes on from what it finds there. An artefact whose inputs changed (an
    earlier stage was built anew) is built again and replaced at the end; one whose settings
    changed is refused.

    Raises:
        ConfigError: the artefact, or the unfinished one, was made with other settings.
        DataError: a file of the complete artefact is missing or has another size.
    """
    settings, inputs = plain(settings), plain(inputs)
    name = directory.name
    if (directory / MANIFEST).exists():
        manifest = load(directory)
        refuse_changes(directory, manifest["settings"], settings)
        if manifest["inputs"] == inputs:
            logging.info("%s: complete and unchanged, skipped", name)
            return manifest
        logging.warning("%s: what it was made from has changed; making it again", name)
    partial = directory.with_name(name + ".partial")
    if not _is_finished(partial, settings, inputs):
        is_new = not partial.exists()
        _open_partial(partial, settings, inputs)
        try:
            built = build(partial)
        except (ConfigError, DataError) as error:
            if is_new and (isinstance(error, ConfigError) or _is_empty(partial)):
                shutil.rmtree(partial)  # refused before anything was done: leave no trace
            raise
        _write_manifest(partial, name, settings, inputs, built)
    publish(partial, directory)
    logging.info("%s: done", name)
    return load(directory)


def _is_empty(partial: pathlib.Path) -> bool:
    return [path.name for path in partial.rglob("*") if path.is_file()] == [BEGUN]


def _is_finished(partial: pathlib.Path, settings: dict[str, Any], inputs: dict[str, Any]) -> bool:
    """Whether all that is left to do is to publish, as after a crash between the two renames."""
    if not (partial / MANIFEST).exists():
        return False
    manifest = read_json(partial / MANIFEST)
    refuse_changes(partial, manifest["settings"], settings)
    return manifest["inputs"] == inputs


def _open_partial(partial: pathlib.Path, settings: dict[str, Any], inputs: dict[str, Any]) -> None:
    """Makes the directory, or keeps what an interrupted build with these inputs left in it."""
    begun = partial / BEGUN
    if begun.exists():
        before = read_json(begun)
        refuse_changes(partial, before["settings"], settings)
        if before["inputs"] == inputs:
            logging.info("%s: going on where it stopped", partial.name)
            return
        logging.warning("%s: what it was made from has changed; starting it again", partial.name)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write_json(begun, {"settings": settings, "inputs": inputs})


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
            f"{where} was made with other settings ({'; '.join(changes[:8])}). Give another "
            f"--workdir to keep both, restore the settings, or remove {where} to make it again."
        )


def _write_manifest(
    partial: pathlib.Path, name: str, settings: dict[str, Any], inputs: dict[str, Any], built: Built
) -> None:
    for cut_short in partial.rglob("*.tmp"):  # by an interruption, and written anew since
        cut_short.unlink()
    files = {}
    for path in sorted(p for p in partial.rglob("*") if p.is_file() and p != partial / BEGUN):
        relative = path.relative_to(partial).as_posix()
        digest = built.sha256.get(relative) or sha256_file(path)
        files[relative] = {"bytes": path.stat().st_size, "sha256": digest}
    content = {"stage": name, "settings": settings, "files": files}
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
    """Renames `partial` to `directory`; what stood there goes only once the new one is in place."""
    old = directory.with_name(directory.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    if directory.exists():
        directory.rename(old)
    partial.rename(directory)
    if old.exists():
        shutil.rmtree(old)


def load(directory: pathlib.Path) -> dict[str, Any]:
    """Returns a complete artefact's manifest after checking that its files are all there.

    Raises:
        FileNotFoundError: there is no manifest, so the stage has not finished.
        DataError: a file is missing or its size is not the manifest's.
    """
    path = directory / MANIFEST
    if not path.exists():
        raise FileNotFoundError(
            f"{directory} has no {MANIFEST}: the stage that makes it has not finished; run "
            "`python -m rejepa_jax.main` with the run's config and --workdir again"
        )
    manifest = read_json(path)
    for name, entry in manifest["files"].items():
        file = directory / name
        size = file.stat().st_size if file.is_file() else None
        if size != entry["bytes"]:
            raise DataError(
                f"{file}: got {'no file' if size is None else f'{size} bytes'}, expected "
                f"{entry['bytes']} bytes; remove {directory} and run again to make it anew"
            )
    return manifest


def verify(directory: pathlib.Path) -> list[str]:
    """Returns the faults of a complete artefact, re-reading every byte; empty when it is whole."""
    try:
        manifest = load(directory)
    except (DataError, FileNotFoundError, json.JSONDecodeError) as error:
        return [str(error)]
    faults = []
    for name, entry in manifest["files"].items():
        digest = sha256_file(directory / name)
        if digest != entry["sha256"]:
            faults.append(f"{directory / name}: sha256 {digest}, expected {entry['sha256']}")
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


def versions() -> dict[str, str]:
    """Returns the versions that a reader would need to repeat a result."""
    out = {"rejepa_jax": rejepa_jax.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a JSON file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        json.dump(plain(content), file, indent=1, sort_keys=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file."""
    return json.loads(path.read_text())


def plain(content: Any) -> Any:
    """Turns tuples and dataclasses into what JSON gives back, so that both compare equal."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(item) for item in content]
    return content


def _flat(content: Any, path: str = "") -> dict[str, Any]:
    if isinstance(content, dict):
        items = [_flat(value, f"{path}.{key}" if path else key) for key, value in content.items()]
        return {key: value for item in items for key, value in item.items()}
    return {path: content}
