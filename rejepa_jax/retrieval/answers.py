"""What a search gives back, and its forms: table, JSON, GeoJSON, GeoParquet, CSV, a page."""

import base64
import csv
import dataclasses
import functools
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from rejepa_jax.retrieval.embeddings.boxes import boxes
from rejepa_jax.retrieval.embeddings.writing import whole
from rejepa_jax.retrieval.hits import Answer, Hit, facts
from rejepa_jax.types import ConfigError

TEXTS = ("id", "uuid", "split", "sensor", "collection", "datetime", "place", "source_uri")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that spreadsheets would run
WEBP = b"RIFF", b"WEBP"

Thumbnail = Callable[[int], bytes | None]


def as_table(hits: Sequence[Hit]) -> list[list[str]]:
    """Returns the hits as rows of text under a heading."""
    heading = ["rank", "score", "id", "split", "labels"]
    rows = [[str(h.rank), f"{h.score:.4f}", h.id, h.split, "; ".join(h.labels)] for h in hits]
    return [heading, *rows]


def as_json(hits: Sequence[Hit]) -> str:
    """Returns the hits as one JSON array."""
    return json.dumps([facts(hit) for hit in hits], indent=1, allow_nan=False)


def as_geojson(hits: Sequence[Hit]) -> str:
    """Returns the hits as GeoJSON (RFC 7946); one whose place is unknown has no geometry."""
    features = []
    for hit in hits:
        shape = shapely.to_geojson(shapely.from_wkb(hit.geometry)) if hit.geometry else None
        feature: dict[str, Any] = {
            "type": "Feature",
            "id": hit.id,
            "geometry": json.loads(shape or "null"),
            "properties": {n: v for n, v in facts(hit).items() if n != "bbox"},
        }
        if hit.bbox:
            feature["bbox"] = list(hit.bbox)
        features.append(feature)
    content = {"type": "FeatureCollection", "features": features}
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(hits: Sequence[Hit]) -> str:
    """Returns the hits as CSV, safe to open in a spreadsheet.

    A text that begins as a formula does gets an apostrophe before it; the other forms have all
    texts as they are.
    """
    names = [field.name for field in dataclasses.fields(Hit)]
    names = [name for name in names if name not in ("geometry", "bbox")]
    out = io.StringIO()
    writer = csv.writer(out)  # lines end as RFC 4180 says, so that a text with \r is quoted
    writer.writerow(names)
    for hit in hits:
        values = facts(hit) | {"labels": "; ".join(hit.labels)}
        writer.writerow([_cell(values[name]) for name in names])
    return out.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def write_geoparquet(hits: Sequence[Hit], path: Path) -> None:
    """Writes the hits as GeoParquet 1.1 in degrees (OGC:CRS84)."""
    columns = {field.name: [getattr(hit, field.name) for hit in hits] for field in FIELDS}
    geometry = [hit.geometry for hit in hits]
    shapes = {"encoding": "WKB", "geometry_types": []}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": shapes}}
    arrays = {
        name: pa.array([None if value in ("", b"") else value for value in values], KINDS[name])
        for name, values in columns.items()
    }
    if any(geometry):
        arrays["bbox"], geo = boxes(columns["id"], geometry)
    table = pa.table(arrays).replace_schema_metadata({"geo": json.dumps(geo)})
    with whole(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")


FIELDS = tuple(field for field in dataclasses.fields(Hit) if field.name != "bbox")
KINDS = dict.fromkeys(TEXTS, pa.string()) | {
    "rank": pa.int32(),
    "score": pa.float32(),
    "row": pa.int64(),
    "labels": pa.list_(pa.string()),
    "lon": pa.float64(),
    "lat": pa.float64(),
    "geometry": pa.binary(),
}


def as_html(answer: Answer, title: str, thumbnail: Thumbnail = lambda _: None) -> str:
    """Returns a page that needs no other file: what comes from data is escaped."""
    pictures = {hit.row: _data_uri(thumbnail(hit.row)) for hit in answer.hits}
    template = _environment().get_template("answers.html")
    return template.render(answer=answer, title=title, pictures=pictures)


def _data_uri(picture: bytes | None) -> str:
    if not picture or (picture[:4], picture[8:12]) != WEBP:
        return ""
    return "data:image/webp;base64," + base64.b64encode(picture).decode()


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("rejepa_jax.retrieval", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def check_file(path: Path) -> str:
    """Returns the ending of a file that `write` can write.

    Raises:
        ConfigError: another ending, a folder in its place, or no folder to hold it.
    """
    ending = path.suffix.lower()
    if ending not in (".parquet", *TEXT_FORMS):
        raise ConfigError(
            f"{path}: got the ending {ending!r}, expected .parquet or {', '.join(TEXT_FORMS)}; "
            "name the file so"
        )
    if path.is_dir() or not path.parent.is_dir():
        what = "a folder of that name" if path.is_dir() else f"no folder {path.parent}"
        raise ConfigError(f"{path}: got {what}, expected to write a file there; name another")
    return ending


def write(answer: Answer, path: Path, title: str, thumbnail: Thumbnail = lambda _: None) -> None:
    """Writes the hits in the form that the file's ending names.

    Raises:
        ConfigError: as `check_file` does.
    """
    ending = check_file(path)
    if ending == ".parquet":
        write_geoparquet(answer.hits, path)
        return
    form = TEXT_FORMS[ending]
    text = form(answer.hits) if form else as_html(answer, title, thumbnail)
    with whole(path) as unfinished:
        unfinished.write_text(text + "\n" * (not text.endswith("\n")), encoding="utf-8")


TEXT_FORMS: dict[str, Callable[[Sequence[Hit]], str] | None] = {
    ".json": as_json,
    ".geojson": as_geojson,
    ".csv": as_csv,
    ".html": None,
}
