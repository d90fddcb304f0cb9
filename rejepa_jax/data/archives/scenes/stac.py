"""Scenes from a list of STAC items (versions 1.0 and 1.1), without asking any server.

The list is a FeatureCollection or an item as .json, one item a line as .ndjson, a stac-geoparquet
table, or a folder in which items lie as .json files. Of an item's assets those count that name
their bands (`bands`, `eo:bands`) or whose own name is that of a band.
"""

import datetime
import json
import pathlib
import posixpath
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet

from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.data.archives.scenes.scene_files import BANDS, LEVELS, S2_OFFSET, Part, Scene
from rejepa_jax.types import DataError

LINES = (".ndjson", ".jsonl", ".geojsonl")
TABLES = (".parquet", ".geoparquet")
LISTS = (".json", ".geojson", *LINES, *TABLES)
SENTINEL_2 = {  # the common names of the bands; `rededge` alone could be any of three
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "rededge1": "B05",  # these three: names of bands in Earth Search, which fit no other sensor
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
Item = dict[str, Any]


def read_items(files: ArchiveFiles, name: str = "") -> list[tuple[str, Item]]:
    """Reads the items of one list, or of every .json of a folder; each with its file's name.

    Raises:
        DataError: a list cannot be read. A .json in a folder that holds no item is none of ours.
    """
    if name:
        found = [(name, item) for item in _parse(files, name)]
        if not found:
            raise _bad(name, "no STAC item", "one at least")
        return found
    names = [name for name in files.names() if name.lower().endswith((".json", ".geojson"))]
    return [(name, item) for name in names for item in _parse(files, name)]


def to_scene(name: str, item: Item, mask: str, file_bands: tuple[str, ...]) -> Scene:
    """Finds an item's bands; `mask` is the asset that says which pixels are usable.

    Raises:
        DataError: the item is not as the standard has it, or offers a band twice.
    """
    scene, properties = item.get("id"), item.get("properties")
    assets = {key: asset for key, asset in (item.get("assets") or {}).items() if asset}
    if not isinstance(scene, str) or not scene or not isinstance(properties, dict):
        raise _bad(name, "an item without id or properties", "a STAC item")
    is_sentinel_2 = str(properties.get("constellation") or properties.get("platform")).startswith(
        "sentinel-2"
    )
    named = {
        key: _band_names(key, asset, is_sentinel_2, file_bands)
        for key, asset in assets.items()
        if key != mask
    }
    where = f"{name}, item {scene}"
    chosen = _choose(where, {key: bands for key, bands in named.items() if bands}, assets)
    offsets = {_offset(assets[key], properties) for key in chosen}
    if len(offsets) > 1:
        raise _bad(where, f"offsets {sorted(offsets)}", "one for all bands")
    parts = [Part(_place(name, assets[key]), named[key]) for key in chosen]
    return Scene(
        id=scene,
        parts=tuple(sorted(parts, key=lambda part: part.file)),
        mask=_place(name, assets[mask]) if mask in assets else "",
        datetime=_time(properties),
        sensor=_sensor(item, properties) if is_sentinel_2 else "",
        offset=offsets.pop() if is_sentinel_2 and offsets else 0,
    )


def _parse(files: ArchiveFiles, name: str) -> Iterator[Item]:
    data, ending = files.read(name), pathlib.PurePosixPath(name).suffix.lower()
    try:
        if ending in TABLES:
            rows = pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
            # The table has the properties as columns beside the item's own.
            values: list[Any] = [{"properties": row, "stac_version": "1", **row} for row in rows]
        elif ending in LINES:
            values = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
        else:
            value = json.loads(data)
            is_list = isinstance(value, dict) and value.get("type") == "FeatureCollection"
            values = value.get("features", []) if is_list else [value]
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _bad(name, repr(error), f"a list of STAC items as {', '.join(LISTS)}") from error
    for value in values:
        is_item = isinstance(value, dict) and value.get("type", "Feature") == "Feature"
        if is_item and value.get("stac_version"):
            yield value


def _band_names(
    key: str, asset: dict[str, Any], is_sentinel_2: bool, file_bands: tuple[str, ...]
) -> tuple[str, ...]:
    """Names an asset's bands as our tables do where they can; () if the asset is no image."""
    known = {name.lower(): name for name in (*BANDS, *file_bands)}
    described = asset.get("bands") or asset.get("eo:bands") or [{}]
    if len(described) == 1 and not described[0].get("name"):
        band = SENTINEL_2.get(key, key) if is_sentinel_2 else key
        return (known[band.lower()],) if band.lower() in known else ()
    names = []
    for band in described:
        name = str(band.get("name") or "")
        common = str(band.get("eo:common_name") or band.get("common_name") or "")
        if is_sentinel_2 and name not in SENTINEL_2.values():
            name = SENTINEL_2.get(name) or SENTINEL_2.get(common) or name
        names.append(known.get(name.lower()) or name or common)
    return tuple(names) if all(names) else ()


def _choose(where: str, named: dict[str, tuple[str, ...]], assets: dict[str, Any]) -> list[str]:
    """Chooses among the assets: each band from the one with the fewest, and rather as TIFF.

    One of which any band is had from another is a rendering of these, such as `visual`.
    """

    def rank(key: str) -> tuple[int, bool]:
        return len(named[key]), "jp2" in str(assets[key].get("type"))

    best: dict[str, str] = {}
    for key in sorted(named, key=lambda key: (rank(key), key)):
        for band in named[key]:
            if rank(best.setdefault(band, key)) == rank(key) and best[band] != key:
                got = f"band {band} in the assets {best[band]} and {key}"
                raise _bad(where, got, "one for each band")
    return [key for key, bands in named.items() if all(best[band] == key for band in bands)]


def _place(name: str, asset: dict[str, Any]) -> str:
    """Gives an asset's address, or its name relative to the archive."""
    href = str(asset.get("href") or "")
    if href.startswith("file://"):
        href = urllib.parse.unquote(href.removeprefix("file://"))
    if "://" in href:
        return href
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), href))


def _offset(asset: dict[str, Any], properties: dict[str, Any]) -> int:
    """What has to be added to the stored values of Sentinel-2 before they are reflectance."""
    if properties.get("earthsearch:boa_offset_applied"):
        return 0
    (band, *_) = asset.get("raster:bands") or asset.get("bands") or [{}]
    merged = {key.removeprefix("raster:"): value for key, value in (asset | band).items()}
    if merged.get("scale"):
        return round((merged.get("offset") or 0) / merged["scale"])
    baseline = str(properties.get("s2:processing_baseline") or "")
    return S2_OFFSET if baseline >= "04.00" else 0


def _sensor(item: Item, properties: dict[str, Any]) -> str:
    said = properties.get("processing:level"), properties.get("s2:product_type")
    words = (*said, item.get("collection"))
    for level, sensor in LEVELS.items():
        if any(str(word or "").upper().endswith(level) for word in words):
            return sensor
    return ""


def _time(properties: dict[str, Any]) -> str:
    value = properties.get("datetime") or properties.get("start_datetime")
    if not value:
        return ""
    try:
        time = datetime.datetime.fromisoformat(str(value))  # a table has times, not texts
    except ValueError:
        return ""
    time = time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _bad(name: str, got: str, expected: str) -> DataError:
    return DataError(f"STAC list {name}: got {got}, expected {expected}; correct the list")
