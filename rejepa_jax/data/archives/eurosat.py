"""Layout: EuroSAT, 27,000 Sentinel-2 patches of 64 pixels in 10 classes, in colour or in 13 bands.

    .../<Class>/<Class>_<n>.jpg   as in 2750/, EuroSAT_RGB/, EuroSAT/
    .../<Class>/<Class>_<n>.tif   as in EuroSATallBands/, EuroSAT_MS/, ds/images/.../tif/

The 13 bands are top-of-atmosphere reflectance times 10,000; B8A comes last in the files.
"""

import functools
import os
import pathlib
import re
from collections.abc import Sequence

from absl import logging

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.archives.fmow.sentinel import check_bands, read_bands
from rejepa_jax.data.archives.image_folder import to_example
from rejepa_jax.data.archives.split_files import (
    bad_split,
    class_of,
    every_fifth,
    lists_beside,
    read_splits,
    some,
)
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.sensors import ORDERS, SENSORS
from rejepa_jax.types import ConfigError, DataError

CLASSES = tuple(
    """AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential
    River SeaLake""".split()  # noqa: SIM905
)
SIZE = 64  # pixels a side
ENDINGS = {"rgb": ".jpg", "s2_l1c": ".tif"}
SPLITS = ("train", "val", "test")  # of the published lists


def open_archive(
    path: str | os.PathLike[str],
    sensor: str = "s2_l1c",
    split_file: str | os.PathLike[str] = "",
    file_bands: Sequence[str] = (),
) -> Archive:
    """Lists the images of a folder, a .tar or a .zip; an image's id is `<Class>_<n>` in both kinds.

    Args:
        path: The archive; it may hold both kinds.
        sensor: `rgb` takes the pictures, `s2_l1c` the files of 13 bands.
        split_file: A published list, such as eurosat-spatial-train.txt, beside which the other
            splits' lie; images that none of them names are left out. Or a CSV with name, split and
            label, as the layout image_folder takes it. Without one, each fifth image of a class in
            the natural order is a `query`, all others are `gallery`.
        file_bands: The order of the bands in files that do not name them; () is the published one.

    Raises:
        DataError: If there is no such image, or the lists and the archive disagree.
    """
    if sensor not in ENDINGS:
        raise ConfigError(f"data.sensor: got {sensor!r}, expected rgb or s2_l1c; choose one")
    order = check_bands(file_bands, ORDERS["eurosat"])
    files = ArchiveFiles(path)
    images = _find_images(files, ENDINGS[sensor])
    if split_file:
        splits = _read_splits(pathlib.Path(split_file), images)
    else:
        splits = every_fifth(images.values())
    items = [
        Item(stem, splits[name], (CLASSES.index(class_of(name)),), {sensor: name})
        for stem, name in images.items()
        if name in splits
    ]
    items.sort(key=lambda item: (item.split, item.id))
    taken_by = Sensor(SENSORS[sensor].band_names, SENSORS[sensor].dtype, SIZE, SIZE)
    return Archive(
        schema=Schema("eurosat", {sensor: taken_by}, CLASSES),
        items=tuple(items),
        files=files,
        read=functools.partial(read_example, file_bands=order),
    )


def read_example(
    files: ArchiveFiles, item: Item, schema: Schema, *, file_bands: Sequence[str]
) -> Example:
    """Reads an image as it is; raises a DataError if it is damaged or of another size."""
    ((key, name),) = item.files.items()
    data = files.read(name)
    if key == "rgb":
        return to_example(rasters.read_raster(data, name), item, schema)
    return to_example(read_bands(data, file_bands, name), item, schema)


def _find_images(files: ArchiveFiles, ending: str) -> dict[str, str]:
    """Finds the files of a kind by stem, in the folders of the classes."""
    found: dict[str, str] = {}
    for name in files.names():
        path = pathlib.PurePosixPath(name)
        if path.suffix != ending or class_of(name) not in CLASSES:
            continue
        if not re.fullmatch(rf"{class_of(name)}_\d+", path.stem):  # another archive's class
            raise _bad_archive(files, name, ending)
        if found.setdefault(path.stem, name) != name:
            raise _bad_archive(files, f"both {name} and {found[path.stem]}", ending)
    if not found:
        raise _bad_archive(files, "no image", ending)
    return found


def _read_splits(path: pathlib.Path, images: dict[str, str]) -> dict[str, str]:
    """Reads lists of names, one a split, or a CSV; gives the split of each image that is in one."""
    if path.suffix != ".txt":
        return read_splits(path, tuple(images.values()))
    splits: dict[str, str] = {}
    for split, file in lists_beside(path, SPLITS).items():
        for name in file.read_text("utf-8-sig").split():
            stem = pathlib.PurePosixPath(name).stem  # the lists say .jpg for both kinds
            if stem not in images or splits.setdefault(images[stem], split) != split:
                raise bad_split(file, name, "an image of the archive, in one split")
    if others := sorted(images.values() - splits.keys()):
        logging.warning("images that no list names are left out: %s", some(others))
    return splits


def _bad_archive(files: ArchiveFiles, got: str, ending: str) -> DataError:
    return DataError(
        f"archive {files.path}: got {got}, expected <Class>/<Class>_<n>{ending} of {CLASSES[0]}, "
        f"{CLASSES[1]}, ... once; set --config.data.archive=PATH to one copy, or data.sensor to "
        f"one of {', '.join(ENDINGS)}"
    )
