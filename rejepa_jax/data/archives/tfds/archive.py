"""Layout: any data set that TensorFlow Datasets has prepared, in TFRecord or ArrayRecord shards.

    .../<version>/features.json, dataset_info.json, <name>-<split>.tfrecord-00000-of-00008

Read at random and without TensorFlow: its own feature connectors take a record apart, pictures are
decoded here. TensorFlow decodes JPEG with a faster transform unless told otherwise, and so differs
by some grey levels from all other readers: `tf.io.decode_jpeg(dct_method="INTEGER_ACCURATE")` does
not.
"""

import dataclasses
import functools
import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import message
from jaxtyping import Shaped

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.archives.image_folder import to_example
from rejepa_jax.data.archives.rasters import Raster
from rejepa_jax.data.archives.tfds.features import (
    bad_folder,
    choose,
    classes_of,
    connectors,
    read_info,
)
from rejepa_jax.data.archives.tfds.shards import find_places, read_record
from rejepa_jax.data.examples import DTYPES, Example, Schema, Sensor
from rejepa_jax.data.sensors import SENSORS, band_specs, in_order, sensor_spec
from rejepa_jax.types import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a record is read; it goes to the workers."""

    file_format: str
    image: str  # the feature's name
    label: str  # "" = there is none
    file_bands: tuple[str, ...] = ()  # of the image, in its order; () = as they are
    is_resized: bool = False


def open_archive(
    path: str | os.PathLike[str],
    sensor: str = "image",
    features: Sequence[str] = (),
    selection: str = "",
    file_bands: Sequence[str] = (),
    record_size: int = 0,
) -> Archive:
    """Lists the records of the folder of one version; their labels are read with them.

    The first image says how all have to be; one that differs is found when it is read.

    Args:
        path: The folder with features.json.
        sensor: Whose image it is: one of `SENSORS`, if `file_bands` names the bands; else three
            bands of 8 bits are `rgb` and all others `image`.
        features: Names of the feature with the image and the one with the label, "" for no label.
            () takes the only one of its kind: an Image or a Tensor of rank 3; a ClassLabel or a
            Sequence of it.
        selection: "" keeps the data set's splits. `every_fifth`, for a data set of a single split:
            each fifth record is a `query`, all others are `gallery`.
        file_bands: The order of the image's bands, which a data set does not tell.
        record_size: If given, the central square of each image is brought to this many pixels a
            side: the remedy for images of different sizes.

    Raises:
        DataError: If it is no such folder, or a shard is missing, cut or damaged.
        ConfigError: If the features cannot be told by their kinds, or a setting is unknown.
    """
    if selection not in ("", "every_fifth"):
        raise ConfigError(f"data.selection: got {selection!r}, expected none or every_fifth")
    files = ArchiveFiles(path)
    info = read_info(files.path)
    image, label = choose(info.features, tuple(features))
    items = _list_items(info, files.path, is_dealt=selection == "every_fifth")
    recipe = Recipe(info.file_format.value, image, label, tuple(file_bands), record_size > 0)
    first, _ = _decode(files, items[0], recipe)
    key, known = _describe(first, sensor, recipe.file_bands, record_size)
    in_order(first, recipe.file_bands or known.bands, known.bands, items[0].id)
    return Archive(
        schema=Schema(info.name, {key: known}, classes_of(info.features[label]) if label else ()),
        items=tuple(items),
        files=files,
        read=functools.partial(read_example, recipe=recipe),
    )


def read_example(files: ArchiveFiles, item: Item, schema: Schema, *, recipe: Recipe) -> Example:
    """Reads a record; raises a DataError if it is damaged or its image not as the schema says."""
    array, labels = _decode(files, item, recipe)
    ((key, sensor),) = schema.sensors.items()
    if recipe.file_bands:
        array = in_order(array, recipe.file_bands, sensor.bands, item.id)
    raster = rasters.fit(Raster(array), sensor.height) if recipe.is_resized else Raster(array)
    read = dataclasses.replace(item, files={key: item.files["shard"]}, labels=labels)
    return to_example(raster, read, schema)


def _list_items(info: Any, path: pathlib.Path, is_dealt: bool) -> list[Item]:
    items = []
    for split, described in info.splits.items():
        pairs = zip(described.filepaths, described.shard_lengths, strict=True)
        for shard, records in pairs:
            places = find_places(os.fspath(shard), info.file_format.value, records)
            name = shard.relative_to(path).as_posix()
            for number, place in enumerate(places):
                dealt = "gallery" if (len(items) + 1) % 5 else "query"
                where = dealt if is_dealt else split
                files, facts = {"shard": name}, {"at": place}
                items.append(Item(f"{name}__{number:06d}", where, (), files, facts=facts))
    if not items:
        raise bad_folder(path, "no record")
    return sorted(items, key=lambda item: (item.split, item.id))


def _describe(
    image: Shaped[np.ndarray, "h w c"], sensor: str, file_bands: tuple[str, ...], record_size: int
) -> tuple[str, Sensor]:
    """Gives the name and the description of the sensor that took an image."""
    height, width, count = image.shape
    size = (record_size, record_size) if record_size else (height, width)
    dtype = image.dtype.name
    if dtype not in DTYPES:
        raise DataError(
            f"the images are {dtype}, expected one of {', '.join(DTYPES)}; prepare the data set "
            "with a feature of such a type"
        )
    if sensor in SENSORS and file_bands:
        band_specs(sensor, file_bands)
        known = SENSORS[sensor].band_names
        return sensor, Sensor(tuple(b for b in known if b in file_bands), dtype, *size)
    if dtype == "uint8" and count == 3:
        return "rgb", Sensor(SENSORS["rgb"].band_names, dtype, *size)
    if sensor not in ("rgb", "image"):
        sensor_spec(sensor)
        raise ConfigError(
            f"data.file_bands: got none for {count} bands of the sensor {sensor!r}, expected their "
            "names in the data set's order, which it does not tell; set it, or data.sensor=image"
        )
    return "image", Sensor(file_bands or tuple(f"band{n + 1}" for n in range(count)), dtype, *size)


def _decode(
    files: ArchiveFiles, item: Item, recipe: Recipe
) -> tuple[Shaped[np.ndarray, "h w c"], tuple[int, ...]]:
    """Reads image and labels of a record."""
    shard = os.fspath(files.path / item.files["shard"])
    record = read_record(shard, recipe.file_format, item.facts["at"])
    features, decoders = connectors(os.fspath(files.path), recipe.image, recipe.label)
    wanted = [recipe.image, recipe.label] if recipe.label else [recipe.image]
    try:
        values = features.deserialize_example_np(record, decoders=decoders)
        if missing := [name for name in wanted if values[name] is None]:
            raise KeyError(missing)
    except (KeyError, ValueError, AttributeError, zlib.error, message.DecodeError) as error:
        raise DataError(
            f"record {item.id}: got {type(error).__name__} on decoding, expected the features "
            f"{wanted} as in features.json; prepare the data set again"
        ) from error
    image, labels = values[recipe.image], values.get(recipe.label, ())
    if decoders:
        image = _read_picture(image, features[recipe.image], f"{item.id}.png")
    return np.asarray(image), tuple(sorted({int(v) for v in np.ravel(labels) if v >= 0}))


def _read_picture(data: bytes, feature: Any, name: str) -> Shaped[np.ndarray, "h w c"]:
    """Decodes a picture the same way on every machine: tfds takes OpenCV where it is installed."""
    channels, dtype = feature.shape[-1], np.dtype(feature.np_dtype)
    array = rasters.read_image(data, name)  # grey comes as three equal bands
    is_grey = channels == 1 and (array == array[..., :1]).all()
    if array.dtype != dtype or not (is_grey or channels == array.shape[-1]):
        raise DataError(
            f"image {name}: got {array.dtype} of {array.shape[-1]} bands, expected {dtype} of "
            f"{channels} as in features.json; prepare the data set as a Tensor instead of an Image"
        )
    return array[..., :channels]
