"""Layout: BigEarthNet v1 (BigEarthNet-MM), pairs of Sentinel-1 and Sentinel-2 patches, or either.

    BigEarthNet-v1.0/<S2 patch>/<S2 patch>_<band>.tif, <S2 patch>_labels_metadata.json
    BigEarthNet-S1-v1.0/<S1 patch>/<S1 patch>_<VV|VH>.tif, <S1 patch>_labels_metadata.json

Split lists name the patches; a folder of eight million files is never listed. What is of which
class is read beside the pixels, and brought from 43 classes to 19; 57 patches are of none of these.
A record's id is the name of the Sentinel-2 patch, also where only Sentinel-1 is there.
"""

import dataclasses
import datetime
import json
import os
from collections.abc import Sequence
from typing import Any

import rasterio
from absl import logging
from rasterio.errors import CRSError

from rejepa_jax.data.archives import footprints
from rejepa_jax.data.archives.bigearthnet import splits
from rejepa_jax.data.archives.bigearthnet.labels import FROM_43, indices
from rejepa_jax.data.archives.bigearthnet.names import ground
from rejepa_jax.data.archives.bigearthnet.patches import SIZE, schema
from rejepa_jax.data.archives.bigearthnet.patches import read_example as read_pixels
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema
from rejepa_jax.types import ConfigError, DataError

FOLDERS = {"s1": "BigEarthNet-S1-v1.0", "s2": "BigEarthNet-v1.0"}
LABELS = "labels.csv"  # beside the folders, in small copies: partners and splits
SELECTIONS = ("clean", "ben14k")


def open_files(
    files: ArchiveFiles,
    folders: dict[str, str],
    tables: Sequence[str],
    selection: str = "clean",
    split_file: str | os.PathLike[str] = "",
) -> Archive:
    """Lists the patches that split lists name.

    Args:
        files: The archive.
        folders: Where the chosen sensors' patches lie.
        tables: A `labels.csv` with the splits, taken where no lists are given; or none.
        selection: `clean`: all that the lists name; the official ones leave out patches with snow,
            cloud or shadow, and those of no class. `ben14k`: what they say of BEN-14K.
        split_file: The lists. Where they do not say the partners of Sentinel-1, and pairs are
            wanted, the metadata of each of its patches are read. What has no partner is left out,
            and counted in the log.

    Raises:
        ConfigError: The selection is unknown.
        DataError: There are no lists or they cannot be used, or nothing is selected.
    """
    if selection not in SELECTIONS:
        raise ConfigError(
            f"data.selection: got {selection!r}, expected {', '.join(SELECTIONS)}: on BigEarthNet "
            "v1 the split lists say which patches"
        )
    if split_file:
        listed = splits.read_lists(split_file, selection)
    elif tables:
        listed = splits.parse(files.read(tables[0]), tables[0])
        listed = splits.choose(listed, f"{files.path}, {tables[0]}", selection)
    else:
        raise DataError(
            f"archive {files.path}: got BigEarthNet v1 without splits, expected lists of its "
            f"patches; {splits.HOW_TO_GET}"
        )
    if "s1" in folders:
        listed = _paired(files, folders["s1"], listed)
    if not listed:
        raise DataError(
            f"archive {files.path}: got none of the listed patches, expected at least one; give "
            "lists of this archive: --config.data.split_file=PATH"
        )
    items = [_to_item(folders, patch) for patch in listed]
    items.sort(key=lambda item: (item.split, item.id))
    return Archive(schema(folders), tuple(items), files, read_example)


def read_example(files: ArchiveFiles, item: Item, schema: Schema) -> Example:
    """Reads the sensors of a patch on the 10 m grid, and its metadata.

    Its place is that of the GeoTIFF, or else of the metadata.

    Raises:
        DataError: A file is missing or damaged, or the Sentinel-1 patch is of another partner.
    """
    names = {key: f"{stem}_labels_metadata.json" for key, stem in item.files.items()}
    facts = {key: _read_facts(files, name) for key, name in names.items()}
    if "s1" in facts and (partner := facts["s1"].get("corresponding_s2_patch")) != item.id:
        raise DataError(
            f"metadata {names['s1']}: got the partner {partner!r}, expected {item.id} as listed; "
            "correct the lists"
        )
    key = "s2" if "s2" in facts else "s1"
    example, known = read_pixels(files, item, schema), facts[key]
    labels, time = indices(known["labels"], item.id, FROM_43), _time(known) or example.datetime
    example = dataclasses.replace(example, labels=labels, datetime=time)
    if example.transform or "coordinates" not in known:
        return example
    crs, transform = _grid(known, names[key])
    geometry = footprints.footprint(crs, transform, SIZE, SIZE)
    return dataclasses.replace(example, crs=crs, transform=transform, geometry=geometry)


def _paired(files: ArchiveFiles, folder: str, listed: list[splits.Listed]) -> list[splits.Listed]:
    """Fills in partners of Sentinel-1 that are not listed; leaves out what has none."""
    if not all(patch.s1 for patch in listed):
        names = _subfolders(files, folder)
        logging.info("archive %s: reading whose partners %d patches are", files.path, len(names))
        partners = {
            _read_facts(files, f"{folder}/{name}/{name}_labels_metadata.json").get(
                "corresponding_s2_patch"
            ): name
            for name in names
        }
        listed = [patch._replace(s1=patch.s1 or partners.get(patch.s2, "")) for patch in listed]
    kept = [patch for patch in listed if patch.s1]
    if len(kept) < len(listed):
        logging.warning(
            "archive %s: left out %d of %d listed patches, which have no partner in %s",
            *(files.path, len(listed) - len(kept), len(listed), folder),
        )
    return kept


def _to_item(folders: dict[str, str], patch: splits.Listed) -> Item:
    names = {"s1": patch.s1, "s2": patch.s2}
    stems = {key: f"{folder}/{names[key]}/{names[key]}" for key, folder in folders.items()}
    return Item(patch.s2, patch.split, (), stems, ground(patch.s1))


def _subfolders(files: ArchiveFiles, folder: str) -> list[str]:
    if files.path.is_dir():
        return sorted(entry.name for entry in os.scandir(files.path / folder) if entry.is_dir())
    start = f"{folder}/"
    inside = (name.removeprefix(start) for name in files.names() if name.startswith(start))
    return sorted({name.split("/")[0] for name in inside if "/" in name})


def _read_facts(files: ArchiveFiles, name: str) -> dict[str, Any]:
    data = files.read(name)
    try:
        facts = json.loads(data)
        if not all(isinstance(label, str) for label in facts["labels"]):
            raise TypeError("labels that are no texts")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"metadata {name}: got {error!r}, expected JSON with labels; download the patch again"
        ) from error
    return facts


def _time(facts: dict[str, Any]) -> str:
    text = facts.get("acquisition_date") or facts.get("acquisition_time") or ""
    try:
        return f"{datetime.datetime.fromisoformat(text).isoformat()}Z"
    except (ValueError, TypeError):
        return ""


def _grid(facts: dict[str, Any], name: str) -> tuple[str, tuple[float, ...]]:
    """Works out CRS and transform of the 10 m grid; Sentinel-1 writes `lly` for `lry`."""
    try:
        corners = facts["coordinates"]
        west, north, east = (float(corners[key]) for key in ("ulx", "uly", "lrx"))
        south = float(corners["lry"] if "lry" in corners else corners["lly"])
        crs = rasterio.CRS.from_wkt(facts["projection"]).to_string()
    except (ValueError, KeyError, TypeError, CRSError) as error:
        raise DataError(
            f"metadata {name}: got {error!r}, expected coordinates and a projection; download the "
            "patch again"
        ) from error
    return crs, ((east - west) / SIZE, 0.0, west, 0.0, (south - north) / SIZE, north)
