"""Layout: fMoW-RGB, pictures of 62 kinds of places, most of them at several dates.

    <split>/<category>/<category>_<location>/<category>_<location>_<n>_rgb.jpg, ..._rgb.json

A record is one bounding box of a JSON and the ground around it, or with the selection `full` the
whole picture. Locations are numbered anew in each split, so that `train/airport_0` is a place.
Left out are the pictures `_msrgb` and those without a category, `test/0000000/0000000_0_rgb.jpg`.
A JSON below `groundtruth/`, published later with coordinates, goes before the one at the picture.

SatMAE's form: pictures already cropped, and `train_62classes.csv`, `val_62classes.csv` with their
label, path and timestamp.
"""

import concurrent.futures
import dataclasses
import os
import re
from collections import Counter
from typing import Any, NamedTuple

from absl import logging

from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.archives.fmow.boxes import read_boxes, square_around
from rejepa_jax.data.archives.fmow.tables import CATEGORIES, find_tables, satmae_items
from rejepa_jax.data.archives.image_folder import to_example
from rejepa_jax.data.archives.rasters import Raster
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.types import ConfigError, DataError

SIZE = 224  # pixels a side of a record, unless the config says
SELECTIONS = ("crops", "full", "satmae")
_TABLES = {split: f"{split}_62classes.csv" for split in ("train", "val", "test")}
_THREADS = 16  # that read JSON
_VIEW = re.compile(
    r"(?:(?P<root>.*)/)?(?P<stem>[^/]+/(?P<category>[^/]+)/(?P<location>(?P=category)_\d+)"
    r"/(?P=location)_\d+)_rgb\.(?P<kind>jpg|json)"
)


def open_archive(
    path: str | os.PathLike[str],
    selection: str = "",
    split_file: str | os.PathLike[str] = "",
    record_size: int = SIZE,
) -> Archive:
    """Lists the records of a folder, a .tar or a .zip; every JSON is read, no picture.

    Args:
        path: The archive, in which the splits' folders may lie at any depth.
        selection: `crops`: a record for each box, except those of 2 pixels or less and false
            detections. `full`: one for each picture. `satmae`: the pictures that SatMAE's tables
            list, as they are. "" is `satmae` where there are such tables, else `crops`.
        split_file: One of SatMAE's tables, where they are not in the archive; the other splits'
            are read beside it.
        record_size: Pixels a side of a record.

    Raises:
        DataError: If nothing is found, or there is a category that is not in `CATEGORIES`.
    """
    files = ArchiveFiles(path)
    tables = find_tables(files, _TABLES, split_file)
    selection = selection or ("satmae" if tables else "crops")
    if selection not in SELECTIONS or (split_file and selection != "satmae"):
        raise ConfigError(
            f"data.selection: got {selection!r}{' and a split file' if split_file else ''}, "
            f"expected one of {', '.join(SELECTIONS)}, and a split file only with satmae; change it"
        )
    is_satmae = selection == "satmae"
    items = satmae_items(files, tables) if is_satmae else _list_items(files, selection == "full")
    if not items or len({item.id for item in items}) < len(items):
        raise DataError(
            f"archive {files.path}: got {len(items)} records, expected at least one and each once, "
            "of train/airport/airport_0/airport_0_0_rgb.jpg; set --config.data.archive=PATH"
        )
    items.sort(key=lambda item: (item.split, item.id))
    sensor = Sensor(SENSORS["rgb"].band_names, "uint8", record_size, record_size)
    return Archive(
        Schema("fmow_rgb", {"rgb": sensor}, CATEGORIES), tuple(items), files, read_example
    )


def read_example(files: ArchiveFiles, item: Item, schema: Schema) -> Example:
    """Reads a picture, or the square around its box; raises a DataError that names a bad file."""
    if fault := item.facts.get("fault"):
        raise DataError(fault)
    name = item.files["rgb"]
    raster = rasters.read_raster(files.read(name), name)
    if transform := item.facts.get("transform"):
        raster = dataclasses.replace(raster, crs="EPSG:4326", transform=tuple(transform))
    if box := item.facts.get("box"):
        raster = _cut(raster, box, name)
    return to_example(rasters.fit(raster, schema.sensors["rgb"].height), item, schema)


def _cut(raster: Raster, box: list[int], name: str) -> Raster:
    height, width, _ = raster.array.shape
    if not (0 <= box[0] < width and 0 <= box[1] < height):
        raise DataError(
            f"image {name}: got the box {box} in {width}x{height} pixels, expected it inside; "
            "download the picture and its JSON again"
        )
    top, left, side = square_around(box, height, width)
    array = raster.array[top : top + side, left : left + side]
    if not raster.transform:
        return dataclasses.replace(raster, array=array)
    a, b, c, d, e, f = raster.transform
    return dataclasses.replace(
        raster, array=array, transform=(a, b, c + a * left, d, e, f + e * top)
    )


class _View(NamedTuple):
    """One picture, with the names of its files."""

    split: str
    category: str
    location: str
    name: str
    picture: str
    note: str  # the JSON; "" = none

    def item(self, facts: dict[str, Any], suffix: str = "") -> Item:
        """Makes a record of the picture, or of the box of it that the facts are about."""
        return Item(
            id=f"{self.split}/{self.name}{suffix}",
            split=self.split,
            labels=(CATEGORIES.index(facts.get("category", self.category)),),
            files={"rgb": self.picture},
            place=f"{self.split}/{self.location}",
            facts={name: value for name, value in facts.items() if name != "category"},
        )


def _list_items(files: ArchiveFiles, is_full: bool) -> list[Item]:
    """Lists boxes or whole pictures, and logs how many boxes are left out and why."""
    views, items, left_out = _find_views(files), list[Item](), Counter[str]()
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        notes = pool.map(lambda view: read_boxes(files, view.note, view.picture), views)
        for view, boxes in zip(views, notes, strict=True):
            left_out.update(box["left_out"] for box in boxes if "left_out" in box)
            if is_full:
                known = {k: v for box in boxes for k, v in box.items()} if view.note else {}
                wanted = ("fault", "datetime", "centre", "transform")
                items.append(
                    view.item({"centre": ()} | {k: known[k] for k in wanted if k in known})
                )
                continue
            suffixes = [f"#{number}" for number in range(len(boxes))] if len(boxes) > 1 else [""]
            pairs = zip(boxes, suffixes, strict=True)
            items += [view.item(box, suffix) for box, suffix in pairs if "left_out" not in box]
    message = "archive %s: %d records of %d pictures; boxes left out: %s"
    logging.info(message, files.path, len(items), len(views), dict(left_out) or "none")
    return items


def _find_views(files: ArchiveFiles) -> list[_View]:
    """Finds the pictures that have a category, and JSON whose picture is missing."""
    found: dict[str, dict[str, str]] = {}
    truths: dict[str, str] = {}
    for name in files.names():
        if not (match := _VIEW.fullmatch(name)):
            continue
        stem, kind = match["stem"], match["kind"]
        if match["category"] not in CATEGORIES:
            raise _unexpected(files, f"the category {match['category']!r} of {name}")
        if kind == "json" and (match["root"] or "").endswith("groundtruth"):
            truths[stem] = name
        elif found.setdefault(stem, {}).setdefault(kind, name) != name:
            raise _unexpected(files, f"{name} and {found[stem][kind]}")
    views = []
    for stem, names in found.items():
        note = truths.get(stem) or names.get("json", "")
        picture = names.get("jpg") or names["json"].removesuffix(".json") + ".jpg"
        split, category, location, name = stem.split("/")
        views.append(_View(split, category, location, name, picture, note))
    return views


def _unexpected(files: ArchiveFiles, got: str) -> DataError:
    return DataError(
        f"archive {files.path}: got {got}, expected each picture once, in a folder of one of the "
        f"{len(CATEGORIES)} published categories; leave the others out"
    )
