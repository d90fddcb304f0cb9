"""Random access to shards that TensorFlow Datasets wrote: TFRecord without an index, ArrayRecord.

A place is where a record's frame begins in a TFRecord shard (the frame is drawn in `tfrecord.py`),
or the record's number in an ArrayRecord shard. Checksums are verified in both.
"""

import functools
import os
import struct
from typing import Any

from rejepa_jax.data import tfrecord
from rejepa_jax.types import DataError

FORMATS = ("tfrecord", "array_record")
_HEAD, _FOOT = struct.Struct("<QI"), struct.Struct("<I")


def find_places(path: str, file_format: str, records: int) -> list[int]:
    """Finds every record's place; of a TFRecord shard only the heads of the frames are read.

    Raises:
        DataError: If the shard is missing, cut or damaged, or holds not as many records.
    """
    if not os.path.isfile(path):
        raise _damage(path, "no such file", "a shard")
    places = _walk(path) if file_format == "tfrecord" else _count(path)
    if len(places) != records:
        raise _damage(path, f"{len(places)} records", f"{records}, as in dataset_info.json")
    return places


def read_record(path: str, file_format: str, place: int) -> bytes:
    """Reads one record; raises a DataError if it is damaged."""
    if file_format == "tfrecord":
        return _read_frame(path, place)
    try:
        return _array_reader(path).read([place])[0]
    except (RuntimeError, IndexError) as error:  # its words change from run to run
        raise _damage(path, f"record {place} damaged", "its checksum") from error


def _walk(path: str) -> list[int]:
    places, place = [], 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while place < size:
            places.append(place)
            length = _length(os.pread(file.fileno(), _HEAD.size, place), path, place)
            place += _HEAD.size + length + _FOOT.size
    if place != size:
        raise _damage(path, f"{size} bytes", f"at least {place}: it is cut off")
    return places


def _read_frame(path: str, place: int) -> bytes:
    with open(path, "rb") as file:
        length = _length(os.pread(file.fileno(), _HEAD.size, place), path, place)
        data = os.pread(file.fileno(), length + _FOOT.size, place + _HEAD.size)
    data, foot = data[:length], data[length:]
    if foot != _FOOT.pack(tfrecord.masked_crc(data)):
        raise _damage(path, f"a record at byte {place} cut or damaged", "its checksum")
    return data


def _length(head: bytes, path: str, place: int) -> int:
    if len(head) != _HEAD.size or head[8:] != _FOOT.pack(tfrecord.masked_crc(head[:8])):
        raise _damage(path, f"no head of a record at byte {place}", "one with its checksum")
    return _HEAD.unpack(head)[0]


def _count(path: str) -> list[int]:
    try:
        return list(range(_array_reader(path).num_records()))
    except RuntimeError as error:
        raise _damage(path, "no ArrayRecord", "one") from error


@functools.lru_cache(64)
def _array_reader(path: str) -> Any:
    from array_record.python import array_record_module  # comes with grain; only this needs it

    return array_record_module.ArrayRecordReader(path)


def _damage(path: str, got: str, expected: str) -> DataError:
    return DataError(
        f"shard {path}: got {got}, expected {expected}; restore it, or let TensorFlow Datasets "
        "prepare the data set again"
    )
