"""A STAC collection beside the parts and an item for each, with the proposed extension `emb:`.

https://github.com/geo-embeddings/embeddings-stac-specification, v0.0.1. STAC has nothing without
time and place: an export gets none of it if a part has no date or no footprint. Sizes, sha256 and
the time of making are in the artefact's manifest and not said again here.
"""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.retrieval.embeddings.parts import open_parts, opened

COLLECTION = "collection.json"
EXTENSIONS = (
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
)
PARQUET, JSON = "application/vnd.apache.parquet", "application/json"
UNSAID = "proprietary"  # STAC 1.0's word for a licence that is not on SPDX's list
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Extent:
    """Where and when the images of a part were taken."""

    box: Box  # west, south, east, north
    start: datetime.datetime
    end: datetime.datetime


def write(directory: Path) -> list[str]:
    """Writes the collection and its items; returns the names of the files, none without extents."""
    parts = open_parts(directory)
    extents = {path.stem: _extent(path) for path in parts.paths}
    known = {name: extent for name, extent in extents.items() if extent is not None}
    if len(known) < len(extents):
        logging.info("%s: no STAC files, as dates or footprints are not known", directory.name)
        return []
    for name, extent in known.items():
        pictures = name.replace("part", "thumbnails") + ".zip"
        has_pictures = (directory / pictures).exists()
        written = item(name, parts.footer, extent, pictures if has_pictures else "")
        artifacts.write_json(directory / f"{name}.json", written)
    artifacts.write_json(directory / COLLECTION, collection(parts.footer, known))
    return [COLLECTION, *(f"{name}.json" for name in known)]


def _extent(path: Path) -> Extent | None:
    """Reads the extent of a part; None where dates or footprints are not known."""
    with opened(path) as file:
        metadata = file.schema_arrow.metadata
        if b"geo" not in metadata:
            return None
        geo = json.loads(metadata[b"geo"])
        times = pc.call_function("min_max", [file.read(["datetime"])["datetime"]]).as_py()
    if times["min"] is None:
        return None
    west, south, east, north = geo["columns"]["geometry"]["bbox"]
    return Extent((west, south, east, north), times["min"], times["max"])


def item(name: str, footer: dict[str, Any], extent: Extent, pictures: str) -> dict[str, Any]:
    """Returns the item of a part; `pictures` is the file of its thumbnails, or empty."""
    west, south, east, north = extent.box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    assets = {"embeddings": {"href": f"./{name}.parquet", "type": PARQUET, "roles": ["data"]}}
    if pictures:
        kind = {"type": "application/zip", "roles": ["thumbnails"]}
        assets["thumbnails"] = {"href": f"./{pictures}", **kind}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(EXTENSIONS),
        "id": name,
        "collection": _name(footer),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(extent.box),
        "properties": {
            "datetime": None,
            "start_datetime": _text(extent.start),
            "end_datetime": _text(extent.end),
            **_made(footer),
        },
        "links": [_link(rel, f"./{COLLECTION}", JSON) for rel in ("root", "parent", "collection")],
        "assets": assets,
    }


def _made(footer: dict[str, Any]) -> dict[str, Any]:
    """Says how the vectors of a part were made."""
    model = {key: footer.get(key) for key in ("fingerprint", "model", "bands", "pool")}
    before = {"format": "rejepa_jax", "expression": footer.get("preprocessing", {})}
    made = {"emb:runtime_parameters": model, "emb:preprocessing": before}
    made["emb:postprocessing"] = {"format": "rejepa_jax", "expression": "l2_normalize"}
    if footer["quantization"]:
        made["emb:quantization"] = footer["quantization"]
    return made


def collection(footer: dict[str, Any], extents: dict[str, Extent]) -> dict[str, Any]:
    """Returns the collection of all items."""
    boxes = [extent.box for extent in extents.values()]
    west, south, east, north = zip(*boxes, strict=True)
    dates = min(e.start for e in extents.values()), max(e.end for e in extents.values())
    model, source = footer.get("model", {}).get("name", ""), footer.get("source", {})
    given = footer.get("preprocessing", {})
    quantized = footer["quantization"] or {"quantized_dtype": footer["dtype"]}
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "stac_extensions": list(EXTENSIONS[:1]),
        "id": _name(footer),
        "description": f"One embedding an image of {source.get('collection', 'an archive')}, by "
        f"the encoder `{model}`",
        "license": footer.get("licence") or UNSAID,
        "extent": {
            "spatial": {"bbox": [[min(west), min(south), max(east), max(north)]]},
            "temporal": {"interval": [[_text(date) for date in dates]]},
        },
        "emb:type": "chip",
        "emb:dimensions": footer["dimension"],
        "data_type": quantized["quantized_dtype"],
        "emb:chip_layout": {
            "layout_type": "variable_grid",
            **({"chip_size": given["record_size"]} if "record_size" in given else {}),
        },
        "emb:fit_for_use": ["retrieval"],
        "links": [
            _link("root", f"./{COLLECTION}", JSON),
            _link("emb:model", f"../encoders/{model}/bundle.json", JSON),
            _link("emb:source-data", "../records/manifest.json", JSON),
            *(_link("item", f"./{name}.json", "application/geo+json") for name in extents),
        ],
    }


def _name(footer: dict[str, Any]) -> str:
    source = footer.get("source", {}).get("collection") or "embeddings"
    return f"{source}-{footer['fingerprint'][:12]}"


def _text(time: datetime.datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _link(rel: str, href: str, kind: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": kind}
