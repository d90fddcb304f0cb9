"""One shard with its index, read at random: whole records, or parts of them into place."""

import io
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from rejepa_jax.data.tfrecord import (
    AGAIN,
    FOOT,
    HEAD,
    INDEX_SUFFIX,
    check_data,
    check_foot,
    check_head,
    crc32c,
    damage,
    head_of,
    open_shard,
)
from rejepa_jax.storage.files import read_bytes
from rejepa_jax.storage.readers import is_remote, open_reader
from rejepa_jax.types import DataError

_BEFORE, _BEHIND = HEAD.size, FOOT.size  # bytes around the data of a record
_NPY_HEAD = 128  # bytes before the numbers of an index
_local = threading.local()


class Part(NamedTuple):
    """Something inside every record that can be read into place."""

    column: int  # of the index's parts
    head: bytes  # what stands before it


class Shard:
    """An open shard, a file or an object in a store; a file closes when all let go of it.

    What is in a store comes as `frame`: the bytes of `span`, which whoever asks has read together
    with others'.
    """

    def __init__(
        self, path: str, records: int, load_index: Callable[[str, int], np.ndarray]
    ) -> None:
        self.path, self._file = path, -1
        if is_remote(path):
            size = open_reader(path).size
        else:
            file = open_shard(path)
            weakref.finalize(self, file.close)
            self._file, size = file.fileno(), os.fstat(file.fileno()).st_size
        self._index = load_index(path, records)
        _check_size(path, self._index, size)

    def span(self, record: int) -> tuple[str, int, int]:
        """Where a record with its checksums is: file, offset, length."""
        offset, length = self._index[record, :2].tolist()
        return self.path, offset - HEAD.size, HEAD.size + length + FOOT.size

    def read(self, record: int, frame: bytes | None = None) -> bytes:
        """Reads a record; raises a DataError if it is damaged."""
        _, offset, size = self.span(record)
        frame = os.pread(self._file, size, offset) if frame is None else frame
        length = check_head(frame[: HEAD.size], self.path, record)
        self._check_length(record, length)
        end = HEAD.size + length
        return check_data(frame[HEAD.size : end], frame[end:], length, self.path, record)

    def read_into(
        self,
        record: int,
        parts: Sequence[Part],
        targets: Sequence[memoryview],
        frame: bytes | None = None,
        is_known: bool = False,
    ) -> None:
        """Reads parts of a record, in their order, into place.

        All of the record is verified, unless it `is_known`; a DataError says what is wrong.
        """
        # One system call: parts go where they belong, the rest to where it stands in the frame.
        offset, length, *starts = self._index[record].tolist()
        size = _BEFORE + length + _BEHIND
        rest, end, pieces = _scratch(size), 0, []
        for (column, head), target in zip(parts, targets, strict=True):
            start = _BEFORE + starts[column] if column < len(starts) else -1
            if not end + len(head) <= start <= size - _BEHIND - len(target):
                raise self._moved(record, f"{starts} as places")
            pieces += (rest[end:start], target)
            end = start + len(target)
        pieces.append(rest[end:size])
        if frame is None:
            got = os.preadv(self._file, pieces, offset - _BEFORE)
        else:
            stream = io.BytesIO(frame)
            got = sum(stream.readinto(piece) for piece in pieces) + len(stream.read())
        if got != size:
            raise damage(self.path, record, f"got {got} bytes before its end, expected {size}")
        if not is_known:
            self._verify(record, pieces, length)
        for (_, head), gap in zip(parts, pieces[::2], strict=False):
            if gap[len(gap) - len(head) :] != head:
                raise self._moved(record, "other bytes before a part")

    def _verify(self, record: int, pieces: list[memoryview], length: int) -> None:
        first, last = pieces[0], pieces[-1]
        if first[:_BEFORE] != head_of(length):
            self._check_length(record, check_head(first[:_BEFORE], self.path, record))
        crc = crc32c(first[_BEFORE:])
        for piece in pieces[1:-1]:
            crc = crc32c(piece, crc)
        crc = crc32c(last[:-_BEHIND], crc)
        check_foot(last[-_BEHIND:], crc, self.path, record)

    def _check_length(self, record: int, got: int) -> None:
        if got != (indexed := int(self._index[record, 1])):
            raise damage(self.path, record, f"got length {got}, expected {indexed} (index)")

    def _moved(self, record: int, got: str) -> DataError:
        return damage(self.path + INDEX_SUFFIX, record, f"got {got}, expected the schema's parts")


def load_index(path: str, records: int) -> Int[np.ndarray, "n _"]:
    """Reads the index of a shard with so many records; raises a DataError if it is not whole."""
    name = path + INDEX_SUFFIX
    try:
        data = read_bytes(name)
    except FileNotFoundError as error:
        raise DataError(f"{name}: got no such file, expected an index; {AGAIN}") from error
    # Numpy would evaluate a header of any kind; there is just one that is right.
    columns = max(2, (len(data) - _NPY_HEAD) // (8 * max(records, 1)))
    head = io.BytesIO()
    known = {"descr": "<i8", "fortran_order": False, "shape": (records, columns)}
    np.lib.format.write_array_header_1_0(head, known)
    table = data.removeprefix(head.getvalue())
    if len(table) == len(data) or len(table) != 8 * records * columns:
        raise DataError(
            f"{name}: got {len(data)} bytes that are no index of {records} records, expected a "
            f".npy file of int64 ({records}, 2+), as the manifest has it; {AGAIN}"
        )
    return np.frombuffer(table, "<i8").reshape(records, columns)


def _check_size(path: str, index: Int[np.ndarray, "n _"], size: int) -> None:
    """Compares the index with itself, no gap and no overlap, and its end with the shard's size."""
    ends = np.concatenate(([0], index[:, :2].sum(axis=1) + FOOT.size))
    starts = ends[:-1] + HEAD.size
    if (wrong := np.flatnonzero(index[:, 0] != starts)).size:
        fault = f"got offset {index[wrong[0], 0]}, expected {starts[wrong[0]]}"
        raise damage(path + INDEX_SUFFIX, int(wrong[0]), fault)
    if size != ends[-1]:
        whole = int(np.searchsorted(ends[1:], size, side="right"))
        raise damage(path, whole, f"got {size} bytes in the file, expected {ends[-1]} (index)")


def _scratch(size: int) -> memoryview:
    """Returns this thread's memory for what is read and not kept."""
    if len(getattr(_local, "scratch", b"")) < size:
        _local.scratch = memoryview(bytearray(2 * size))
    return _local.scratch
