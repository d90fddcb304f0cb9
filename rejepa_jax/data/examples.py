"""One place as a record: the `Example`, its `Schema`, and the bytes of a `tf.train.Example`.

    feature                     kind         value; an empty one is unknown
    id, source, crs, datetime,  bytes list   UTF-8
    place
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
import re
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped

from rejepa_jax.data import tf_example
from rejepa_jax.data.shard import Part
from rejepa_jax.types import ConfigError, DataError

SCHEMA_VERSION = "2.0.0"  # 2.0: place; the shards' index has where the images begin
DTYPES = ("uint8", "uint16", "int16", "float32")
TEXTS = ("id", "source", "crs", "datetime", "place")
_RESERVED = (*TEXTS, "geometry", "transform", "labels")
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

    @property
    def stored(self) -> np.dtype:
        """The array's dtype in a record."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def num_bytes(self) -> int:
        """The array's size in a record."""
        return math.prod(self.shape) * self.stored.itemsize


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
        """Reads what `to_json` gave.

        Raises:
            DataError: it is not that, or of another major version.
        """
        version = str(value.get("version"))
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise DataError(
                f"schema {value.get('name')!r}: got version {version}, expected {SCHEMA_VERSION}; "
                "run prepare again with this release"
            )
        try:
            sensors = {
                name: Sensor(tuple(s["bands"]), s["dtype"], s["height"], s["width"])
                for name, s in value["sensors"].items()
            }
            schema = cls(value["name"], sensors, tuple(value["classes"]))
            _check_types(schema)
            again = schema.to_json() | {"version": value["version"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"schema: got {error!r} in reading it; run prepare again") from error
        if json.dumps(again, sort_keys=True) != json.dumps(value, sort_keys=True):
            raise DataError(f"schema: got {value}, expected {again}; run prepare again")
        return schema


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
    place: str = ""  # the same for all images of one ground, at any date; "" = unknown


def encode(example: Example, schema: Schema) -> bytes:
    """Writes an example as one record; equal examples give equal bytes.

    Raises:
        DataError: If the example is not what the schema says; names the id and the sensor.
    """
    _check(example, schema)
    values = {name: getattr(example, name).encode() for name in TEXTS}
    values["geometry"] = example.geometry
    values["transform"] = np.asarray(example.transform, "<f8").tobytes()
    for name, image in example.images.items():
        values[name] = np.asarray(image, image.dtype.newbyteorder("<")).tobytes()
    record = tf_example.Message()
    for name, value in values.items():
        record.features.feature[name].bytes_list.value.append(value)
    record.features.feature["labels"].int64_list.value.extend(example.labels)
    return record.SerializeToString(deterministic=True)


def decode(record: bytes, schema: Schema) -> Example:
    """Reads back what `encode` wrote; the images are read-only.

    Raises:
        DataError: If the record is damaged or was written with another schema.
    """
    features = tf_example.features(record)
    images = {name: _image(features, name, sensor) for name, sensor in schema.sensors.items()}
    transform, geometry, *texts = (
        tf_example.value(features, name) for name in ("transform", "geometry", *TEXTS)
    )
    try:
        example = Example(
            images=images,
            labels=tuple(features["labels"].int64_list.value),
            transform=tuple(np.frombuffer(transform, "<f8").tolist()),
            geometry=geometry,
            **{name: text.decode() for name, text in zip(TEXTS, texts, strict=True)},
        )
    except ValueError as error:  # a part of a number, or bytes that are no text
        raise DataError(f"record {texts[0]!r}: got {error}; run prepare again") from error
    _check(example, schema)
    return example


def find_images(record: bytes, schema: Schema) -> list[int]:
    """Returns where in an encoded record each sensor's pixels begin, the sensors by name."""
    starts = list(tf_example.entry_starts(record))
    places = []
    for name in sorted(schema.sensors):
        head = image_part(schema, name).head
        (place,) = [start for start in starts if record.startswith(head, start)]
        places.append(place + len(head))
    return places


def image_part(schema: Schema, name: str) -> Part:
    """Returns what a reader has to know of a sensor's pixels to read them into place."""
    column = sorted(schema.sensors).index(name)
    return Part(column, tf_example.entry_head(name, schema.sensors[name].num_bytes))


def shard_name(name: str, split: str, shard: int, num_shards: int) -> str:
    """Names a shard's file as tfds does."""
    return f"{name}-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def _check_types(schema: Schema) -> None:
    sensors = schema.sensors.values()
    names = (*schema.classes, *(band for sensor in sensors for band in sensor.bands))
    sizes = [size for sensor in sensors for size in sensor.shape]
    if not all(isinstance(name, str) for name in names) or any(type(n) is not int for n in sizes):
        raise TypeError("a class or band that is no text, or a size that is no whole number")


def _check(example: Example, schema: Schema) -> None:
    for fault in _faults(example, schema):
        raise DataError(f"example {example.id!r} from {example.source!r}: {fault}")


def _faults(example: Example, schema: Schema) -> Iterator[str]:
    if not example.id:
        yield "got an empty id, expected a name; give every place its own"
    if any("\ud800" <= letter <= "\udfff" for text in TEXTS for letter in getattr(example, text)):
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


def _image(features: tf_example.Features, name: str, sensor: Sensor) -> Image:
    pixels = tf_example.value(features, name, sensor.num_bytes)
    return np.frombuffer(pixels, sensor.stored).reshape(sensor.shape)
