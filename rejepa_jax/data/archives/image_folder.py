"""Layout: images in one folder a class, `.../<Class>/<name>.jpg`, also .jpeg, .png, .tif, .tiff."""

import os
import pathlib

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.archives.footprints import footprint
from rejepa_jax.data.archives.rasters import Raster
from rejepa_jax.data.archives.split_files import class_of, every_fifth, read_splits, some
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.types import DataError


def open_archive(
    path: str | os.PathLike[str],
    split_file: str | os.PathLike[str] = "",
    record_size: int = 0,
) -> Archive:
    """Lists the images of a folder, a .tar or a .zip; an image's id is its name in there.

    The first image says how all have to be; one that differs is found when it is read.

    Args:
        path: The archive. The folder an image lies in is its class.
        split_file: CSV with the columns `name`, `split` and, to be checked, `label`; it has to
            list each image once. Without one, each fifth image of a class in the natural order of
            the names is a `query`, all others are `gallery`.
        record_size: If given, the central square of each image is brought to this many pixels a
            side: the remedy for images of different sizes.

    Raises:
        DataError: If there is no image, an image has no class folder, or the split file disagrees.
    """
    files = ArchiveFiles(path)
    names = _image_names(files)
    classes = tuple(sorted(set(map(class_of, names))))
    splits = read_splits(pathlib.Path(split_file), names) if split_file else every_fifth(names)
    names = sorted(names, key=lambda name: (splits[name], name))
    key, sensor = _describe(rasters.read_raster(files.read(names[0]), names[0]), record_size)
    label = {name: index for index, name in enumerate(classes)}
    return Archive(
        schema=Schema("image_folder", {key: sensor}, classes),
        items=tuple(Item(n, splits[n], (label[class_of(n)],), {key: n}) for n in names),
        files=files,
        read=read_resized_example if record_size else read_example,
    )


def read_example(files: ArchiveFiles, item: Item, schema: Schema) -> Example:
    """Reads an image as it is; raises a DataError if it is damaged or not as the schema says."""
    return to_example(_read(files, item), item, schema)


def read_resized_example(files: ArchiveFiles, item: Item, schema: Schema) -> Example:
    """Reads an image and brings its central square to the schema's size; else as `read_example`."""
    (sensor,) = schema.sensors.values()
    return to_example(rasters.fit(_read(files, item), sensor.height), item, schema)


def to_example(raster: Raster, item: Item, schema: Schema) -> Example:
    """Makes the example of an item that is one image in one file; its facts may hold `datetime`.

    Raises:
        DataError: If the image is not as the schema says.
    """
    ((key, name),) = item.files.items()
    sensor, array = schema.sensors[key], raster.array
    if array.shape != sensor.shape or array.dtype != sensor.dtype:
        raise DataError(
            f"image {item.id}: got {array.dtype} {array.shape}, expected {sensor.dtype} "
            f"{sensor.shape} as all images of the archive; leave it out, or set "
            f"--config.data.record_size=SIZE where only sizes differ"
        )
    return Example(
        id=item.id,
        images={key: array},
        labels=item.labels,
        source=name,
        crs=raster.crs,
        transform=raster.transform,
        geometry=footprint(raster.crs, raster.transform, *array.shape[:2]),
        datetime=item.facts.get("datetime", ""),
        place=item.place,
    )


def _read(files: ArchiveFiles, item: Item) -> Raster:
    (name,) = item.files.values()
    return rasters.read_raster(files.read(name), name)


def _describe(raster: Raster, record_size: int) -> tuple[str, Sensor]:
    """Gives the name and the description of the sensor that took an image."""
    height, width, count = raster.array.shape
    size = (record_size, record_size) if record_size else (height, width)
    dtype = raster.array.dtype.name
    if dtype == "uint8" and count == 3:
        return "rgb", Sensor(SENSORS["rgb"].band_names, dtype, *size)
    bands = tuple(
        name or f"band{number}"
        for number, name in enumerate(raster.bands or ("",) * count, start=1)
    )
    return "image", Sensor(bands, dtype, *size)


def _image_names(files: ArchiveFiles) -> list[str]:
    endings = rasters.PICTURES + rasters.GEOTIFFS
    names = [name for name in files.names() if name.lower().endswith(endings)]
    without_class = [name for name in names if not class_of(name)]
    if not names or without_class:
        got = f"{some(without_class)} outside of a folder" if names else "no image"
        raise DataError(
            f"archive {files.path}: got {got}, expected <Class>/<name> with the endings "
            f"{', '.join(endings)}; put each image into the folder of its class"
        )
    return names
