"""Whole files in stores: sizes, up, down, copies; and small ones by path or URL alike.

Every size is looked at on arrival, and the sha256 where it is known. How failures of a store are
met is told in `stores`.
"""

import concurrent.futures
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rejepa_jax.storage.readers import Where, is_remote, join, open_reader
from rejepa_jax.storage.stores import Store
from rejepa_jax.types import DataError

S = TypeVar("S")
T = TypeVar("T")
AT_ONCE = 16  # files that are moved at the same time
_IN_MEMORY = 8 << 20  # bytes of a file that is sent from memory, as it is at that moment
_CHUNK = 32 << 20


def read_bytes(where: Where) -> bytes:
    """Reads a whole small file."""
    if not is_remote(where):
        return pathlib.Path(where).read_bytes()
    store = Store(os.fspath(where))
    return store.call("cat_file", store.path)


def write_bytes(url: str, data: bytes) -> None:
    """Writes an object and looks at its size."""
    store = Store(url)
    store.call("pipe_file", store.path, data, volume=len(data))
    _check_size(url, len(data))


def exists(where: Where) -> bool:
    """Whether there is a file."""
    if not is_remote(where):
        return os.path.exists(where)
    store = Store(os.fspath(where))
    try:
        store.call("info", store.path)
    except FileNotFoundError:
        return False
    return True


def sizes(url: str) -> dict[str, int]:
    """Returns the size of every object below a URL by its name from there; empty if none is."""
    found = _list(url, "find", detail=True)
    return {name: entry["size"] for name, entry in found.items() if entry["type"] == "file"}


def folders(url: str) -> set[str]:
    """Returns the names of the folders directly below a URL."""
    found = _list(url, "ls", detail=True)
    names = {name for name, entry in found.items() if entry["type"] == "directory"}
    return names - {".", ".."}


def _list(url: str, method: str, **options: Any) -> dict[str, dict[str, Any]]:
    store = Store(url)
    try:
        found = store.call(method, store.path, **options)
    except FileNotFoundError:
        return {}
    start = store.path.rstrip("/") + "/"
    entries = found.values() if isinstance(found, dict) else found
    names = {entry["name"].rstrip("/").removeprefix(start): entry for entry in entries}
    return {name: entry for name, entry in names.items() if name not in ("", start[:-1])}


def upload(path: pathlib.Path, url: str) -> int:
    """Sends a file; returns its size. Whether it arrived whole is for `sizes` to tell."""
    store, size = Store(url), path.stat().st_size
    if size > _IN_MEMORY:
        store.call("put_file", str(path), store.path, volume=size)
        return size
    data = path.read_bytes()  # once: a log may grow meanwhile
    store.call("pipe_file", store.path, data, volume=len(data))
    return len(data)


def upload_checked(path: pathlib.Path, url: str) -> None:
    """Sends one file by itself, and looks at its size there."""
    _check_size(url, upload(path, url))


def _check_size(url: str, size: int) -> None:
    got = open_reader(url).size
    if got != size:
        raise DataError(f"{url}: got {got} bytes there, expected the {size} that were sent; again")


def download(url: str, path: pathlib.Path, size: int, digest: str = "") -> None:
    """Fetches an object; the file has its name only once its size and sha256 are right.

    Raises:
        DataError: they are not: the object was cut, damaged or replaced.
    """
    store, temporary = Store(url), path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    store.call("get_file", store.path, str(temporary), volume=size)
    got = temporary.stat().st_size
    fault = f"{got} bytes, expected {size}" if got != size else ""
    if not fault and digest and (found := sha256(temporary)) != digest:
        fault = f"sha256 {found}, expected {digest}"
    if fault:
        temporary.unlink()
        raise DataError(f"{url}: got {fault}; remove what it is part of, and run again")
    temporary.replace(path)


def copy(source: str, target: str) -> None:
    """Copies an object within a store, without a byte passing through this machine."""
    store = Store(source)
    store.call("cp_file", store.path, Store(target).path)


def remove(url: str, names: Iterable[str]) -> None:
    """Removes these objects below a URL; one that is not there is none of our business."""
    store, names = Store(url), list(names)
    try:
        if names:
            store.call("rm", [join(store.path, name) for name in names])
    except FileNotFoundError:
        if len(names) > 1:
            each(lambda name: remove(url, [name]), names)


def sha256(where: Where) -> str:
    """Returns the sha256 of a file or an object, reading all of it."""
    reader, digest = open_reader(where), hashlib.sha256()
    for offset in range(0, reader.size, _CHUNK):
        digest.update(reader.read(offset, _CHUNK))
    return digest.hexdigest()


def each(act: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Does something with several items at once; returns what it gives, in their order."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, items))
