"""TFRecord shards: the format, a strict writer and a reader in order, without TensorFlow.

A shard is its records one after another, nothing before, between or after them:

    0          8             12                     12 + n              16 + n
    +----------+-------------+----------------------+-------------------+
    | n        | crc of n    | data                 | crc of data       |
    | uint64   | uint32      | n bytes              | uint32            |
    +----------+-------------+----------------------+-------------------+

Numbers are little-endian; a crc is CRC-32C, rotated right by 15 bits, plus 0xa282ead8. Beside
`SHARD` lies its index `SHARD.index.npy`, int64 [n 2+p]: where each record's data begins, its
length, and where in the data each of p parts begins, so that these can be read into place.
"""

import dataclasses
import functools
import hashlib
import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
from awscrt import checksums

from rejepa_jax.types import DataError

crc32c: Callable[..., int] = checksums.crc32c  # of any buffer, going on from an earlier result
INDEX_SUFFIX = ".index.npy"
HEAD, FOOT = struct.Struct("<QI"), struct.Struct("<I")
AGAIN = "remove the shard and run prepare again"


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """What `write_shard` wrote."""

    records: int
    bytes: int
    sha256: str


def write_shard(
    path: str | os.PathLike[str],
    records: Iterable[bytes],
    find_parts: Callable[[bytes], Sequence[int]] = lambda _: (),
) -> ShardInfo:
    """Writes a shard and its index; neither has its name before both are whole and on disk."""
    path, digest, index, size = os.fspath(path), hashlib.sha256(), [], 0
    with open(path + ".tmp", "wb") as file:
        for data in records:
            for part in (head_of(len(data)), data, FOOT.pack(masked_crc(data))):
                file.write(part)
                digest.update(part)
            index.append((size + HEAD.size, len(data), *find_parts(data)))
            size += HEAD.size + len(data) + FOOT.size
        _sync(file)
    with open(path + INDEX_SUFFIX + ".tmp", "wb") as file:
        table = np.array(index, "<i8") if index else np.zeros((0, 2), "<i8")
        np.save(file, table, allow_pickle=False)
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
    with open_shard(path) as file:
        size = os.fstat(file.fileno()).st_size
        for record in itertools.count():
            if file.tell() == size:
                return
            length = check_head(file.read(HEAD.size), path, record)
            # A cut record's length may be far more than there is to read.
            data = file.read(min(length, size))
            yield check_data(data, file.read(FOOT.size), length, path, record)


def damage(path: str, record: int, fault: str) -> DataError:
    """Says what is wrong with a record, and what to do."""
    return DataError(f"{path}, record {record}: {fault}; {AGAIN}")


def open_shard(path: str) -> BinaryIO:
    """Opens a local shard's file; raises a DataError if there is none."""
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise DataError(f"{path}: got no such shard, expected one; {AGAIN}") from error


@functools.lru_cache(4096)
def head_of(length: int) -> bytes:
    """Returns what stands before a record's data of that length."""
    return HEAD.pack(length, masked_crc(struct.pack("<Q", length)))


def check_head(head: bytes | memoryview, path: str, record: int) -> int:
    """Verifies what stands before a record's data; returns the data's length."""
    if len(head) != HEAD.size:
        raise damage(path, record, f"got {len(head)} bytes before its end, expected {HEAD.size}")
    length, crc = HEAD.unpack(head)
    if crc != (expected := masked_crc(head[:8])):
        raise damage(path, record, f"got checksum {crc:#x} of the length, expected {expected:#x}")
    return length


def check_data(data: bytes, foot: bytes, length: int, path: str, record: int) -> bytes:
    """Verifies a record's data and what stands behind it; returns the data."""
    if (got := len(data) + len(foot)) != (expected := length + FOOT.size):
        raise damage(path, record, f"got {got} bytes before its end, expected {expected}")
    check_foot(foot, crc32c(data), path, record)
    return data


def check_foot(foot: bytes | memoryview, crc: int, path: str, record: int) -> None:
    """Compares the CRC-32C of a record's data with the one that is stored behind it."""
    (got,) = FOOT.unpack(foot)
    if got != (expected := _mask(crc)):
        raise damage(path, record, f"got checksum {got:#x} of the data, expected {expected:#x}")


def masked_crc(data: bytes | memoryview) -> int:
    """Returns the checksum of data as the format stores it."""
    return _mask(crc32c(data))


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
