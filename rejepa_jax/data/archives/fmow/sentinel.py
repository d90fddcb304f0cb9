"""Layout: fMoW-Sentinel, 13-band Sentinel-2 images of fMoW's places, at several dates each.

    [fmow-sentinel/]<split>/<category>/<category>_<location_id>/
        <category>_<location_id>_<image_id>.tif
    train.csv, val.csv, test_gt.csv: category, location_id, image_id, timestamp, polygon

Names of files are worked out from the tables: no folder of images is listed. Locations are numbered
anew in each split, as in fMoW-RGB, so that `train/airport_0` is a place.
"""

import csv
import dataclasses
import functools
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt16

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.archives.fmow.tables import CATEGORIES, Table, bounds, find_tables, utc
from rejepa_jax.data.archives.image_folder import to_example
from rejepa_jax.data.archives.rasters import Raster
from rejepa_jax.data.archives.split_files import bad_split
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.sensors import ORDERS, SENSORS, in_order, nodata
from rejepa_jax.types import ConfigError, DataError

SIZE = 96  # pixels a side of a record, unless the config says; the files are of many sizes
TABLES = {split: f"{split}.csv" for split in ("train", "val", "test_gt")}
BANDS = SENSORS["s2_l1c"].band_names
COLUMNS = ("category", "location_id", "image_id")


def open_archive(
    path: str | os.PathLike[str],
    split_file: str | os.PathLike[str] = "",
    file_bands: Sequence[str] = (),
    record_size: int = SIZE,
) -> Archive:
    """Lists the images that the tables list, in a folder, a .tar or a .zip.

    Args:
        path: The archive.
        split_file: One of the tables, where they are not in the archive; the other splits' are
            read beside it.
        file_bands: The order of the bands in files that do not name them; () is the published one.
        record_size: Pixels a side of a record.

    Raises:
        DataError: If there is no table, one is damaged, or the images lie elsewhere.
    """
    order = check_bands(file_bands, ORDERS["fmow_sentinel"])
    files = ArchiveFiles(path)
    tables = find_tables(files, TABLES, split_file)
    items = [item for split, table in tables.items() for item in _list_items(files, split, table)]
    if not items or len({item.id for item in items}) < len(items):
        raise DataError(
            f"archive {files.path}: got {len(items)} images in {list(tables)}, expected at least "
            f"one and each once in {', '.join(TABLES.values())}, beside the images; set "
            "--config.data.split_file=PATH where the tables lie elsewhere"
        )
    items.sort(key=lambda item: (item.split, item.id))
    sensor = Sensor(BANDS, "uint16", record_size, record_size)
    return Archive(
        schema=Schema("fmow_sentinel", {"s2_l1c": sensor}, CATEGORIES),
        items=tuple(items),
        files=files,
        read=functools.partial(read_example, file_bands=order),
    )


def read_example(
    files: ArchiveFiles, item: Item, schema: Schema, *, file_bands: Sequence[str]
) -> Example:
    """Reads an image and brings its central square to the records' size.

    Raises:
        DataError: If the file is missing, damaged, or not 13 bands of whole numbers.
    """
    name = item.files["s2_l1c"]
    raster = read_bands(files.read(name), file_bands, name)
    fitted = rasters.fit(raster, schema.sensors["s2_l1c"].height, nodata("s2_l1c"))
    return to_example(fitted, item, schema)


def read_bands(data: bytes, file_bands: Sequence[str], name: str) -> Raster:
    """Decodes a 13-band file as uint16 in the order of the records, by what it says its bands are.

    A file that names its bands (B01 or B1) is believed; `file_bands` is for one that does not.

    Raises:
        DataError: If some bands cannot be named, or values would change on becoming uint16.
    """
    raster = rasters.read_raster(data, name)
    said = tuple(f"B0{band[1:]}" if len(band) == 2 else band for band in raster.bands)
    known = set(said) & set(BANDS)
    if known and sorted(said) != sorted(BANDS):
        raise DataError(
            f"image {name}: got bands named {', '.join(raster.bands)}, expected all of "
            f"{', '.join(BANDS)} or no such name; correct the names with rio edit-info"
        )
    array = in_order(raster.array, said if known else file_bands, BANDS, name)
    return dataclasses.replace(raster, array=_as_uint16(array, name), bands=BANDS)


def check_bands(file_bands: Sequence[str], default: Sequence[str]) -> Sequence[str]:
    """Returns the order to read by; raises a ConfigError if it is not one of all 13 bands."""
    if file_bands and sorted(file_bands) != sorted(BANDS):
        raise ConfigError(
            f"data.file_bands: got {', '.join(file_bands)}, expected all of {', '.join(BANDS)} in "
            "the files' order; correct it, or leave it out for the published one"
        )
    return tuple(file_bands or default)


def _as_uint16(array: Shaped[np.ndarray, "h w c"], name: str) -> UInt16[np.ndarray, "h w c"]:
    if array.dtype == np.uint16:
        return array
    with np.errstate(invalid="ignore"):  # of NaN, which is counted below
        converted = array.astype(np.uint16)
    if changed := np.count_nonzero(converted != array):
        raise DataError(
            f"image {name}: got {array.dtype} with {changed} values of {array.size} that are no "
            "whole numbers from 0 to 65535, expected reflectance times 10,000; scale and round the "
            "files, as with `gdal_translate -ot UInt16`, or download them again"
        )
    return converted


def _list_items(files: ArchiveFiles, split: str, table: Table) -> list[Item]:
    stems, items = [], []
    for number, row in enumerate(csv.DictReader(io.StringIO(table.text)), start=2):
        category, location, image = (row.get(column) or "" for column in COLUMNS)
        if category not in CATEGORIES or not location or not image:
            got = f"{category!r}, {location!r}, {image!r} in row {number}"
            raise bad_split(table.name, got, f"a known category in {', '.join(COLUMNS)}")
        place = f"{category}_{location}"
        stems.append(f"{split}/{category}/{place}/{place}_{image}.tif")
        label = (CATEGORIES.index(category),)
        facts: dict[str, Any] = {"datetime": utc(row.get("timestamp") or "")}
        if ground := bounds(row.get("polygon") or ""):
            facts["centre"] = ((ground[0] + ground[2]) / 2, (ground[1] + ground[3]) / 2)
        name = f"{split}/{place}"
        items.append(Item(f"{name}_{image}", split, label, {}, name, facts))
    folder = _find_folder(files, table, stems[:100])
    for item, stem in zip(items, stems, strict=True):
        item.files["s2_l1c"] = folder + stem
    return items


def _find_folder(files: ArchiveFiles, table: Table, stems: list[str]) -> str:
    """Finds the folder that the splits' folders lie in, by the first image that is there."""
    folders = (table.folder, f"{table.folder}fmow-sentinel/")
    for name in (folder + stem for stem in stems for folder in folders):
        try:
            files.read(name)
        except DataError:
            continue
        return name.removesuffix(next(stem for stem in stems if name.endswith(stem)))
    raise bad_split(
        table.name,
        f"none of its first {len(stems)} images in {files.path} below {folders}",
        "those of its split; unpack them, or move the table away to leave the split out",
    )
