"""A run directory in a bucket has a mirror on this machine, in which the stages work as anywhere.

The bucket holds the tree that the run directory would be, and has the last word: what is complete
here is complete there, and what is not there any more goes here too.

    $REJEPA_CACHE/NAME-HASH/  <->  gs://bucket/runs/NAME/  of `open_run("gs://bucket/runs/NAME")`
    $REJEPA_CACHE/NAME-HASH.json   says so; ~/.cache/rejepa unless the variable is set

How things get into the bucket is told in `keeping`, how they come back in `fetching`.
"""

import dataclasses
import fnmatch
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from rejepa_jax.storage import files
from rejepa_jax.storage.readers import is_remote, join, open_reader
from rejepa_jax.types import ConfigError

CACHE = "REJEPA_CACHE"
MANIFEST = "manifest.json"
PARTIAL = ".partial"
LISTING = ".kept.json"  # of a folder kept in a bucket: its files; empty while they are being sent

Path = pathlib.Path
Files = Mapping[str, dict[str, Any]]  # name -> bytes and sha256, as in a manifest


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A folder of the cache and what it mirrors."""

    local: Path
    url: str
    left: str  # pattern of the files that, once kept, are left in the bucket only; "" = none

    def leaves(self, path: Path) -> bool:
        """Whether a file is one of those that are in the bucket only."""
        return bool(self.left) and fnmatch.fnmatchcase(path.name, self.left)


def cache() -> Path:
    """Returns the folder of all mirrors."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.path.abspath(os.environ.get(CACHE) or Path(home) / "rejepa"))


def find(path: Path) -> Mirror | None:
    """Returns the mirror that a path lies in; any process finds it, by the path alone."""
    path = Path(os.path.abspath(path))
    if not path.is_relative_to(cache()) or path == cache():
        return None
    local = cache() / path.relative_to(cache()).parts[0]
    try:
        said = json.loads(local.with_name(local.name + ".json").read_text())
    except FileNotFoundError:
        return None
    return Mirror(local, said["url"], said["left"])


def address(path: Path) -> str:
    """Returns where a file or directory is for everyone: a URL in a mirror, else its path."""
    mirror = find(path)
    if mirror is None:
        return str(path)
    return join(mirror.url, *Path(os.path.abspath(path)).relative_to(mirror.local).parts)


def location(path: Path) -> str:
    """Returns from where to read a file: its path, or a URL if it is left in the bucket."""
    mirror = find(path)
    is_left = mirror is not None and mirror.leaves(path) and not path.exists()
    return address(path) if is_left else str(path)


def size(path: Path) -> int | None:
    """Returns the bytes of a file that is here or left in the bucket; None if it is neither."""
    if path.exists():
        return path.stat().st_size
    where = location(path)
    try:
        return open_reader(where).size if is_remote(where) else None
    except FileNotFoundError:
        return None


def open_run(where: str) -> Path:
    """Returns the directory in which a run works: the path, or the mirror of a URL.

    Of the artefacts in the bucket only the manifests are fetched now.

    Raises:
        ConfigError: the bucket holds nothing, but its mirror complete artefacts.
    """
    if not is_remote(where):
        return Path(where)
    mirror = _make(where.rstrip("/"), "", where)
    there = files.folders(mirror.url)
    here = {path.parent.name for path in mirror.local.glob(f"*/{MANIFEST}")}
    if here and not there:
        raise ConfigError(
            f"{where} holds nothing, but its mirror {mirror.local} has {', '.join(sorted(here))}: "
            "copy them back to the bucket, or remove the mirror to start anew"
        )
    _refresh_all(mirror, here | there)
    return mirror.local


def renew(run: Path) -> None:
    """Looks again which artefacts are complete in the bucket, where another process publishes."""
    mirror = find(run)
    if mirror is not None:
        here = {path.parent.name for path in mirror.local.glob(f"*/{MANIFEST}")}
        _refresh_all(mirror, here | files.folders(mirror.url))


def _refresh_all(mirror: Mirror, names: set[str]) -> None:
    files.each(lambda name: _refresh(mirror, name), {n for n in names if not is_passing(n)})


def open_artefact(where: str, left: str = "") -> Path:
    """Returns the directory of one artefact by itself: the path, or the mirror of a URL.

    Files whose names match `left` stay in the bucket, and are never brought here whole.
    """
    if not is_remote(where):
        return Path(where)
    parent, _, name = where.rstrip("/").rpartition("/")
    if parent.endswith("/"):
        raise ConfigError(f"got {where}, expected a folder in a bucket, such as {where}/records")
    mirror = _make(parent, left, where)
    _refresh(mirror, name)
    return mirror.local / name


def open_any(where: str) -> Path:
    """Returns the directory of a run, or of one artefact by itself, whichever is there."""
    is_artefact = is_remote(where) and files.exists(join(where, MANIFEST))
    return open_artefact(where) if is_artefact else open_run(where)


def is_passing(name: str) -> bool:
    """Whether a directory of this name is no artefact yet, or no more."""
    return name.endswith((PARTIAL, ".old"))


def _make(url: str, left: str, where: str) -> Mirror:
    mark = hashlib.sha256(f"{where.rstrip('/')} {left}".encode()).hexdigest()[:12]
    local = cache() / f"{where.rstrip('/').rpartition('/')[2]}-{mark}"
    local.mkdir(parents=True, exist_ok=True)
    _write(local.with_name(local.name + ".json"), {"url": url, "left": left})
    return Mirror(local, url, left)


def _write(path: Path, content: Any) -> None:
    _replace(path, json.dumps(content).encode())


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _refresh(mirror: Mirror, name: str) -> None:
    """Makes the manifest here that of the bucket; files of another one, or of none, go."""
    path = mirror.local / name / MANIFEST
    try:
        there = files.read_bytes(join(mirror.url, name, MANIFEST))
    except FileNotFoundError:
        there = b""
    if there == (path.read_bytes() if path.exists() else b""):
        return
    shutil.rmtree(path.parent, ignore_errors=True)
    if there:
        path.parent.mkdir(exist_ok=True)
        _replace(path, there)
