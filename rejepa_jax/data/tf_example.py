"""The `tf.train.Example` message without TensorFlow, and how its bytes features are read."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from rejepa_jax.types import DataError

# TensorFlow's example.proto and feature.proto; in a pool of its own, beside which TensorFlow's
# can be loaded.
_PROTO = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type { name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type_name: "BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 type_name: "FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type_name: "Int64List" oneof_index: 0 } }
message_type { name: "Features"
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type_name: "Feature" } }
  field { name: "feature" number: 1 label: LABEL_REPEATED type_name: "FeatureEntry" } }
message_type { name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type_name: "Features" } }
"""
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(text_format.Parse(_PROTO, descriptor_pb2.FileDescriptorProto()))
Message: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("tensorflow.Example"))

Features = Mapping[str, Any]  # name -> Feature message; an absent one reads as empty


def features(record: bytes) -> Features:
    """Parses a record's features.

    Raises:
        DataError: the bytes are no `tf.train.Example`.
    """
    try:
        return Message.FromString(record).features.feature
    except message.DecodeError as error:
        raise DataError(
            f"record: got {len(record)} bytes that are no tf.train.Example, expected one; "
            "run prepare again"
        ) from error


def value(features: Features, name: str, size: int | None = None) -> bytes:
    """Returns the one bytes value of a feature, of `size` bytes if that is known.

    Raises:
        DataError: there is none, more than one, or its size is another.
    """
    values = features[name].bytes_list.value  # a feature that is absent reads as an empty list
    if len(values) != 1 or size not in (None, len(values[0])):
        place = b"".join(features["id"].bytes_list.value).decode(errors="replace")
        raise DataError(
            f"record {place!r}: got values of {[len(value) for value in values]} bytes for "
            f"{name!r}, expected one{'' if size is None else f' of {size}'}; it was written with "
            "another schema: run prepare again"
        )
    return values[0]


@functools.cache
def entry_head(name: str, size: int) -> bytes:
    """Returns the bytes before a feature's one bytes value of `size`, from where it begins."""
    record = Message()
    record.features.feature[name].bytes_list.value.append(bytes(size))
    whole = record.SerializeToString(deterministic=True)
    (start,) = entry_starts(whole)
    return whole[start : len(whole) - size]


def entry_starts(record: bytes) -> Iterator[int]:
    """Yields where in a well-formed record each feature begins."""
    start = _length_at(record, 0)[1]  # the example is one field, and its features are the fields
    while start < len(record):
        yield start
        length, begin = _length_at(record, start)
        start = begin + length


def _length_at(record: bytes, start: int) -> tuple[int, int]:
    """Reads a field's length, behind its tag of one byte; returns it and where the field begins."""
    length, place = 0, start + 1
    for shift in itertools.count(step=7):
        byte, place = record[place], place + 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, place
    raise AssertionError
