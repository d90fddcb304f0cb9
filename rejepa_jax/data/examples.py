"""One place as a record: the `Example`, its `Schema`, and the bytes of a `tf.train.Example`.

    feature                     kind         value; an empty one is unknown
    id, source, crs, datetime   bytes list   UTF-8
    geometry                    bytes list   WKB
    transform                   bytes list   6 float64, little-endian
    labels                      int64 list   sorted indices into the schema's classes
    <sensor>                    bytes list   pixels: rows, columns, bands; little-endian

The message's own float list holds 32 bits, too few for a UTM northing; hence the transform's bytes.
"""

import dataclasses
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format
from jaxtyping import Shaped

from rejepa_jax.types import ConfigError, DataError

SCHEMA_VERSION = "1.0.0"
DTYPES = ("uint8", "uint16", "int16", "float32")
_TEXTS = ("id", "source", "crs", "datetime")
_RESERVED = (*_TEXTS, "geometry", "transform", "labels")
_NAME = re.compile(r"[a-z][a-z0-9_]*")

Image = Shaped[np.ndarray, "_ _ _"]


@dataclasses.dataclass(frozen=True)
class Sensor:
    """What one sensor's array in a record is."""

    bands: tuple[str, ...]  # in array order
    dtype: str  # one of DTYPES
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """The array's shape, h w c."""
        return self.height, self.width, len(self.bands)


@dataclasses.dataclass(frozen=True)
class Schema:
    """What every record of a data set holds."""

    name: str
    sensors: dict[str, Sensor]
    classes: tuple[str, ...]  # a label is an index into it

    def __post_init__(self) -> None:
        for name in (self.name, *self.sensors):
            if not _NAME.fullmatch(name) or name in _RESERVED:
                raise ConfigError(
                    f"schema {self.name!r}: got the name {name!r}, expected lower-case letters, "
                    f"digits and _, and none of {', '.join(_RESERVED)}; choose another"
                )
        for name, sensor in self.sensors.items():
            if sensor.dtype not in DTYPES or min(sensor.shape) < 1:
                raise ConfigError(
                    f"schema {self.name!r}, sensor {name!r}: got {sensor.dtype} {sensor.shape}, "
                    f"expected {', '.join(DTYPES)} with rows, columns and bands; convert the images"
                )

    def to_json(self) -> dict:
        """Gives the schema and its version in JSON's own types."""
        return json.loads(json.dumps({"version": SCHEMA_VERSION, **dataclasses.asdict(self)}))

    @classmethod
    def from_json(cls, value: dict) -> "Schema":
        """Reads what `to_json` gave; refuses another major version with a DataError."""
        version = str(value.get("version"))
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise DataError(
                f"schema {value.get('name')!r}: got version {version}, expected {SCHEMA_VERSION}; "
                "run prepare again with this release"
            )
        sensors = {
            name: Sensor(**{**sensor, "bands": tuple(sensor["bands"])})
            for name, sensor in value["sensors"].items()
        }
        return cls(value["name"], sensors, tuple(value["classes"]))


@dataclasses.dataclass(frozen=True)
class Example:
    """One place, as the archive has it."""

    id: str  # unique in the data set
    images: dict[str, np.ndarray]  # sensor -> [h w c], in the archive's own dtype
    labels: tuple[int, ...]  # sorted indices into the schema's classes, may be empty
    source: str  # where in the archive it came from, a relative name
    crs: str = ""  # such as "EPSG:32634"; "" = unknown
    transform: tuple[float, ...] = ()  # affine a b c d e f from column, row to crs; () = unknown
    geometry: bytes = b""  # WKB polygon in OGC:CRS84 (lon lat), counter-clockwise; b"" = unknown
    datetime: str = ""  # acquisition, ISO 8601 UTC "2017-06-13T10:10:31Z"; "" = unknown


def encode(example: Example, schema: Schema) -> bytes:
    """Writes an example as one record; equal examples give equal bytes.

    Raises:
        DataError: If the example is not what the schema says; names the id and the sensor.
    """
    for fault in _faults(example, schema):
        raise DataError(f"example {example.id!r} from {example.source!r}: {fault}")
    values = {name: getattr(example, name).encode() for name in _TEXTS}
    values["geometry"] = example.geometry
    values["transform"] = np.asarray(example.transform, "<f8").tobytes()
    for name, image in example.images.items():
        values[name] = np.asarray(image, image.dtype.newbyteorder("<")).tobytes()
    record = _Message()
    for name, value in values.items():
        record.features.feature[name].bytes_list.value.append(value)
    record.features.feature["labels"].int64_list.value.extend(example.labels)
    return record.SerializeToString(deterministic=True)


def decode(record: bytes, schema: Schema) -> Example:
    """Reads back what `encode` wrote; the images are read-only.

    Raises:
        DataError: If the record is damaged or was written with another schema.
    """
    features = _features(record)
    return Example(
        images={name: _image(features, name, sensor) for name, sensor in schema.sensors.items()},
        labels=tuple(features["labels"].int64_list.value),
        transform=tuple(np.frombuffer(_value(features, "transform"), "<f8").tolist()),
        geometry=_value(features, "geometry"),
        **{name: _value(features, name).decode() for name in _TEXTS},
    )


def decode_images(record: bytes, schema: Schema, sensors: Sequence[str]) -> dict[str, Image]:
    """Reads only the named sensors' images, h w c and read-only: what training needs.

    Raises:
        DataError: If the record is damaged or was written with another schema.
    """
    features = _features(record)
    return {name: _image(features, name, schema.sensors[name]) for name in sensors}


def shard_name(name: str, split: str, shard: int, num_shards: int) -> str:
    """Names a shard's file as tfds does."""
    return f"{name}-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def write_tfds_metadata(
    directory: str | os.PathLike[str],
    schema: Schema,
    splits: dict[str, list[int]],
    num_bytes: dict[str, int],
) -> None:
    """Writes what `tfds.builder_from_directory` reads, without TensorFlow.

    That is `dataset_info.json`, `features.json` and `labels.labels.txt`; the shards must be in
    `directory` already, named by `shard_name`. `splits` gives the number of records in each shard
    of a split, `num_bytes` the size of a split's shards together.
    """
    import tensorflow_datasets as tfds  # heavy, and only this function needs it

    tensor = tfds.features.Tensor
    label = tfds.features.ClassLabel(names=schema.classes)
    features = {
        **{name: tfds.features.Text() for name in _TEXTS},
        "geometry": tensor(shape=(), dtype=np.object_),  # tfds's name for bytes
        "transform": tensor(shape=(None,), dtype=np.float64, encoding="bytes"),
        "labels": tfds.features.Sequence(label),
    }
    for name, sensor in schema.sensors.items():
        features[name] = tensor(shape=sensor.shape, dtype=np.dtype(sensor.dtype), encoding="bytes")
    tfds.folder_dataset.write_metadata(
        data_dir=os.fspath(directory),
        features=features,
        split_infos=[
            tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=num_bytes[split])
            for split, lengths in splits.items()
        ],
        version=SCHEMA_VERSION,
        check_data=False,  # the check reads a record through TensorFlow
    )


def _faults(example: Example, schema: Schema) -> Iterator[str]:
    if not example.id:
        yield "got an empty id, expected a name; give every place its own"
    if any("\ud800" <= letter <= "\udfff" for text in _TEXTS for letter in getattr(example, text)):
        yield "got text that is not Unicode, expected UTF-8; rename the file"
    if example.images.keys() != schema.sensors.keys():
        yield (
            f"got sensors {sorted(example.images)}, expected {sorted(schema.sensors)}; "
            "restore the missing files or leave the place out"
        )
    for name, sensor in schema.sensors.items():
        image = example.images[name]
        if image.dtype != np.dtype(sensor.dtype) or image.shape != sensor.shape:
            yield (
                f"got {image.dtype} {image.shape} for sensor {name!r}, expected {sensor.dtype} "
                f"{sensor.shape}; convert the image or leave the place out"
            )
        if image.dtype.kind == "f" and (bad := image.size - np.isfinite(image).sum()):
            yield (
                f"got {bad} values of {image.size} NaN or infinite for sensor {name!r}, expected "
                "none; fill them in the archive or leave the place out"
            )
    # Strictly ascending between two fences: sorted, none twice, none outside the classes.
    fenced = (-1, *example.labels, len(schema.classes))
    if any(a >= b for a, b in itertools.pairwise(fenced)):
        yield (
            f"got labels {example.labels}, expected ascending indices below "
            f"{len(schema.classes)}; correct them in the archive"
        )
    if len(example.transform) not in (0, 6) or not np.isfinite(example.transform).all():
        yield (
            f"got transform {example.transform}, expected 6 finite numbers or none; "
            "correct the georeference or leave it out"
        )


def _features(record: bytes) -> Mapping[str, message.Message]:
    try:
        return _Message.FromString(record).features.feature
    except message.DecodeError as error:
        raise DataError(
            f"record: got {len(record)} bytes that are no tf.train.Example, expected one; "
            "run prepare again"
        ) from error


def _value(features: Mapping[str, message.Message], name: str, size: int | None = None) -> bytes:
    values = features[name].bytes_list.value  # a feature that is absent reads as an empty list
    if len(values) != 1 or size not in (None, len(values[0])):
        place = b"".join(features["id"].bytes_list.value).decode(errors="replace")
        raise DataError(
            f"record {place!r}: got values of {[len(value) for value in values]} bytes for "
            f"{name!r}, expected one{'' if size is None else f' of {size}'}; it was written with "
            "another schema: run prepare again"
        )
    return values[0]


def _image(features: Mapping[str, message.Message], name: str, sensor: Sensor) -> Image:
    dtype = np.dtype(sensor.dtype).newbyteorder("<")
    pixels = _value(features, name, math.prod(sensor.shape) * dtype.itemsize)
    return np.frombuffer(pixels, dtype).reshape(sensor.shape)


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
_Message = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("tensorflow.Example"))
