"""TFRecord shards: a strict writer and readers, without TensorFlow.

A shard is its records one after another, nothing before, between or after them:

    0          8             12                     12 + n              16 + n
    +----------+-------------+----------------------+-------------------+
    | n        | crc of n    | data                 | crc of data       |
    | uint64   | uint32      | n bytes              | uint32            |
    +----------+-------------+----------------------+-------------------+

Numbers are little-endian; a crc is CRC-32C, rotated right by 15 bits, plus 0xa282ead8. Beside
`SHARD` lies its index `SHARD.index.npy`, int64 [n 2]: where each record's data begins, its length.
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import operator
import os
import struct
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, SupportsIndex

import google_crc32c
import numpy as np
from jaxtyping import Int

from rejepa_jax.types import DataError

INDEX_SUFFIX = ".index.npy"
_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")
# Each open shard costs two file descriptors (data and index); 1024 is a common limit.
_MAX_OPEN = 256
_AGAIN = "remove the shard and run prepare again"


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """What `write_shard` wrote."""

    records: int
    bytes: int
    sha256: str


def write_shard(path: str | os.PathLike[str], records: Iterable[bytes]) -> ShardInfo:
    """Writes a shard and its index; neither has its name before both are whole and on disk."""
    path, digest, index, size = os.fspath(path), hashlib.sha256(), [], 0
    with open(path + ".tmp", "wb") as file:
        for data in records:
            head = _HEAD.pack(len(data), _crc(struct.pack("<Q", len(data))))
            for part in (head, data, _FOOT.pack(_crc(data))):
                file.write(part)
                digest.update(part)
            index.append((size + _HEAD.size, len(data)))
            size += _HEAD.size + len(data) + _FOOT.size
        _sync(file)
    with open(path + INDEX_SUFFIX + ".tmp", "wb") as file:
        np.save(file, np.array(index, "<i8").reshape(-1, 2), allow_pickle=False)
        _sync(file)
    # The shard comes last: where it is, its index is.
    os.replace(path + INDEX_SUFFIX + ".tmp", path + INDEX_SUFFIX)
    os.replace(path + ".tmp", path)
    return ShardInfo(len(index), size, digest.hexdigest())


def scan(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Reads a shard in order, without its index; a DataError ends it at the first faulty record.

    Records missing from the end, which only an index can tell, go unseen.
    """
    path = os.fspath(path)
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        for record in itertools.count():
            if file.tell() == size:
                return
            length = _check_head(file.read(_HEAD.size), path, record)
            # A cut record's length may be far more than there is to read.
            data = file.read(min(length, size))
            yield _check_data(data, file.read(_FOOT.size), length, path, record)


class Records:
    """The records of several shards as one sequence, each record checked whenever it is read.

    Takes the shards in order, each with the number of records its manifest promises. A shard is
    opened when first read; a DataError then says if it or its index is missing, cut or damaged.
    Threads may share one object; a pickled copy opens the shards anew.
    """

    def __init__(self, shards: Sequence[tuple[str | os.PathLike[str], int]]):
        self._shards = [(os.fspath(path), records) for path, records in shards]
        self._ends = list(itertools.accumulate(records for _, records in self._shards))
        self._open = functools.lru_cache(_MAX_OPEN)(_Shard)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: SupportsIndex) -> bytes:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"got record {index}, expected one of the {len(self)} from 0")
        shard = bisect.bisect_right(self._ends, index)
        path, records = self._shards[shard]
        return self._open(path, records).read(index - self._ends[shard] + records)

    def read(self, indices: Iterable[SupportsIndex]) -> list[bytes]:
        """Reads a batch, in the order asked for."""
        return [self[index] for index in indices]

    def __reduce__(self) -> tuple:
        return Records, (self._shards,)


class _Shard:
    """One open shard; its file closes when the last thread lets go of the object."""

    def __init__(self, path: str, records: int):
        self._path, self._file = path, _open(path)
        weakref.finalize(self, self._file.close)
        self._index = _load_index(path, records)
        _check_size(path, self._index, os.fstat(self._file.fileno()).st_size)

    def read(self, record: int) -> bytes:
        offset, indexed = self._index[record].tolist()
        file = self._file.fileno()
        length = _check_head(os.pread(file, _HEAD.size, offset - _HEAD.size), self._path, record)
        if length != indexed:
            raise _damage(self._path, record, f"got length {length}, expected {indexed} (index)")
        data, foot = os.pread(file, length, offset), os.pread(file, _FOOT.size, offset + length)
        return _check_data(data, foot, length, self._path, record)


def _damage(path: str, record: int, fault: str) -> DataError:
    return DataError(f"{path}, record {record}: {fault}; {_AGAIN}")


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise DataError(f"{path}: got no such shard, expected one; {_AGAIN}") from error


def _load_index(path: str, records: int) -> Int[np.ndarray, "n 2"]:
    name = path + INDEX_SUFFIX
    try:
        index = np.asarray(np.load(name, mmap_mode="r", allow_pickle=False))
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise DataError(f"{name}: got no whole .npy file, expected an index; {_AGAIN}") from error
    if index.dtype != "<i8" or index.shape != (records, 2):
        raise DataError(
            f"{name}: got {index.dtype} {index.shape}, expected int64 {(records, 2)} for the "
            f"{records} records in the manifest; {_AGAIN}"
        )
    return index


def _check_size(path: str, index: Int[np.ndarray, "n 2"], size: int) -> None:
    """Compares the index with itself, no gap and no overlap, and its end with the shard's size."""
    ends = np.concatenate(([0], index.sum(axis=1) + _FOOT.size))
    starts = ends[:-1] + _HEAD.size
    if (wrong := np.flatnonzero(index[:, 0] != starts)).size:
        fault = f"got offset {index[wrong[0], 0]}, expected {starts[wrong[0]]}"
        raise _damage(path + INDEX_SUFFIX, int(wrong[0]), fault)
    if size != ends[-1]:
        whole = int(np.searchsorted(ends[1:], size, side="right"))
        raise _damage(path, whole, f"got {size} bytes in the file, expected {ends[-1]} (index)")


def _check_head(head: bytes, path: str, record: int) -> int:
    if len(head) != _HEAD.size:
        raise _damage(path, record, f"got {len(head)} bytes before its end, expected {_HEAD.size}")
    length, crc = _HEAD.unpack(head)
    if crc != (expected := _crc(head[:8])):
        raise _damage(path, record, f"got checksum {crc:#x} of the length, expected {expected:#x}")
    return length


def _check_data(data: bytes, foot: bytes, length: int, path: str, record: int) -> bytes:
    if (got := len(data) + len(foot)) != (expected := length + _FOOT.size):
        raise _damage(path, record, f"got {got} bytes before its end, expected {expected}")
    (crc,) = _FOOT.unpack(foot)
    if crc != (expected := _crc(data)):
        raise _damage(path, record, f"got checksum {crc:#x} of the data, expected {expected:#x}")
    return data


def _crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
