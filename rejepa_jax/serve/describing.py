"""From the collection's columns to what the API says of images and of the whole."""

import datetime
from typing import Any

import numpy as np

from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.search import Searcher
from rejepa_jax.serve import replies
from rejepa_jax.serve.decoding_child import FORMATS
from rejepa_jax.serve.settings import MAX_K, Settings

KNOWN = tuple(name for name in replies.Item.model_fields if name != "thumbnail")


def item(facts: dict[str, Any], version: str, is_shown: bool) -> dict[str, Any]:
    """Returns what is known of one image as `replies.Item`.

    The version in the picture's address lets a browser keep it: rows may change with versions.
    """
    address = f"/api/thumbnails/{facts['row']}?v={version}" if is_shown else None
    return {name: facts[name] for name in KNOWN} | {"thumbnail": address}


def has_thumbnails(collection: Collection) -> bool:
    """Whether pictures were exported: the first image that is there has one."""
    return bool(collection.rows) and (
        collection.thumbnail(int(collection.catalogue.live.argmax())) is not None
    )


def info(searcher: Searcher, settings: Settings) -> replies.Info:
    """Says what is searched, by what, and what a request may hold."""
    collection, bundle = searcher.collection, searcher.bundle
    catalogue, about = collection.catalogue, collection.index_info
    return replies.Info(
        name=collection.name,
        rows=collection.rows,
        dim=collection.index.dim,
        fingerprint=collection.fingerprint,
        version=collection.version,
        index=replies.IndexInfo(kind=about["kind"], recall_at_10=about.get("recall_at_10")),
        encoder=bundle.name,
        labels=catalogue.names("labels"),
        sensors=catalogue.names("sensor"),
        collections=catalogue.names("collection"),
        splits=catalogue.names("split"),
        dates=_dates(catalogue),
        bbox=_bounds(catalogue),
        has_places=catalogue.has_places,
        has_thumbnails=has_thumbnails(collection),
        query=replies.QueryInfo(
            sensor=bundle.sensor,
            bands=list(bundle.record.bands),
            dtype=bundle.record.dtype,
            height=bundle.record.height,
            width=bundle.record.width,
            formats=list(FORMATS),
        ),
        limits=replies.Limits(
            max_body=settings.max_body,
            max_pixels=settings.max_pixels,
            max_uploads=settings.max_uploads,
            max_k=MAX_K,
        ),
    )


def _dates(catalogue: Catalogue) -> list[str] | None:
    times = catalogue.times[catalogue.live & (catalogue.times > np.iinfo(np.int64).min)]
    if not len(times):
        return None
    days = (datetime.datetime.fromtimestamp(t / 1e6, datetime.UTC) for t in np.sort(times)[[0, -1]])
    return [day.date().isoformat() for day in days]


def _bounds(catalogue: Catalogue) -> list[float] | None:
    boxes = catalogue.boxes[catalogue.live]
    boxes = boxes[~np.isnan(boxes).any(axis=1)]
    if not len(boxes):
        return None
    west, south, east, north = boxes.T
    if (west > east).any():
        return [-180.0, float(south.min()), 180.0, float(north.max())]
    return [float(each) for each in (west.min(), south.min(), east.max(), north.max())]


def points(
    collection: Collection, box: tuple[float, float, float, float] | None, limit: int
) -> dict[str, Any]:
    """Returns at most `limit` images as GeoJSON points, each as many rows from the next."""
    catalogue = collection.catalogue
    known = catalogue.live & ~np.isnan(catalogue.points).any(axis=1)
    if box is not None:
        west, south, east, north = box
        lon, lat = catalogue.points.T
        along = (west <= lon) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
        known &= along & (south <= lat) & (lat <= north)
    rows = np.flatnonzero(known)
    if len(rows) > limit:
        rows = rows[np.linspace(0, len(rows) - 1, limit).astype(np.int64)]
    facts = catalogue.table.select(["id", "labels"]).take(rows).to_pylist()
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [round(x, 6) for x in place]},
            "properties": {"id": fact["id"], "row": int(row), "labels": fact["labels"] or []},
        }
        for fact, row, place in zip(facts, rows, catalogue.points[rows].tolist(), strict=True)
    ]
    return {"type": "FeatureCollection", "version": collection.version, "features": features}
