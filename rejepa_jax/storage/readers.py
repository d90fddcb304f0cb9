"""Ranges of files: a path with `://` in it is a URL of an object in a store, all else is local."""

import os
import weakref
from collections.abc import Sequence

from rejepa_jax.storage.stores import Store, patiently, status

Where = str | os.PathLike[str]
_GAP, _BLOCK = 64 << 10, 16 << 20  # ranges so close to one another are one request, up to so much


def is_remote(where: Where) -> bool:
    """Whether it is a URL."""
    return "://" in os.fspath(where)


def join(where: Where, *names: str) -> str:
    """Appends names to a path or a URL."""
    if is_remote(where):
        return "/".join([os.fspath(where).rstrip("/"), *names])
    return os.path.join(where, *names)


class LocalReader:
    """An open local file, which closes when it is let go."""

    def __init__(self, path: Where):
        self._path, self._file = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self.size = os.fstat(self._file).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Reads a range; it comes back shorter where the file ends."""
        return os.pread(self._file, length, offset)

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads ranges (offset, length), in the order asked for."""
        return [os.pread(self._file, length, offset) for offset, length in ranges]

    def __reduce__(self) -> tuple:
        return LocalReader, (self._path,)


class RemoteReader:
    """An object in a store, of which nothing is asked before the first read."""

    def __init__(self, url: str):
        self._url = url
        self._size: int | None = None

    @property
    def size(self) -> int:
        """Bytes in the object, as the store says when first asked."""
        if self._size is None:
            store = Store(self._url)
            self._size = store.call("info", store.path)["size"]
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Reads a range; it comes back shorter where the object ends."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads ranges (offset, length) all at once; they come in the order asked for."""
        return read_ranges([(self._url, offset, length) for offset, length in ranges])

    def __reduce__(self) -> tuple:
        return RemoteReader, (self._url,)


Reader = LocalReader | RemoteReader


def open_reader(where: Where) -> Reader:
    """Opens a file for reading ranges; threads may share it, a pickled copy opens it anew."""
    return RemoteReader(os.fspath(where)) if is_remote(where) else LocalReader(where)


def read_ranges(ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Reads ranges (URL, offset, length) of objects in one store, all at once, in their order.

    Near ranges of an object are read by one request. A range comes back shorter, or empty, where
    its object ends.
    """
    blocks, block_of = _merge(ranges)
    if not blocks:
        return [b"" for _ in ranges]
    stores = {url: Store(url) for url in {url for url, _, _ in blocks}}
    first = stores[blocks[0][0]]
    read: dict[int, bytes] = {}

    def act() -> None:
        missing = [number for number in range(len(blocks)) if number not in read]
        parts = [blocks[number] for number in missing]
        paths = [stores[url].path for url, _, _ in parts]
        starts, ends = [part[1] for part in parts], [part[2] for part in parts]
        found = first.once("cat_ranges", paths, starts, ends, volume=sum(ends) - sum(starts))
        for number, data in zip(missing, found, strict=True):
            if not isinstance(data, BaseException):
                read[number] = bytes(data)
            elif status(data) == 416:  # it begins where the object has ended
                read[number] = b""
        for (url, _, _), data in zip(parts, found, strict=True):
            if isinstance(data, BaseException) and status(data) != 416:
                data.add_note(url)
                raise data

    where = first.url if len(stores) == 1 else first.url.rpartition("/")[0] + "/*"
    patiently(where, "cat_ranges", act)
    return [
        read[number][offset - blocks[number][1] :][:length] if length else b""
        for number, (_, offset, length) in zip(block_of, ranges, strict=True)
    ]


def _merge(
    ranges: Sequence[tuple[str, int, int]],
) -> tuple[list[tuple[str, int, int]], list[int]]:
    """Returns blocks (URL, start, end) that cover the ranges, and the block of each range."""
    blocks: list[tuple[str, int, int]] = []
    block_of = [-1] * len(ranges)
    for place in sorted(range(len(ranges)), key=ranges.__getitem__):
        url, start, length = ranges[place]
        if not length:
            continue
        end = start + length
        before = blocks[-1] if blocks else ("", 0, 0)
        near = before[0] == url and start <= before[2] + _GAP
        if near and max(end, before[2]) - before[1] <= _BLOCK:
            blocks[-1] = (url, before[1], max(end, before[2]))
        else:
            blocks.append((url, start, end))
        block_of[place] = len(blocks) - 1
    return blocks, block_of
