"""The exported file `rejepa-embeddings/1`: (Geo)Parquet parts, one row an image, numbered through.

The footer of a part holds the key `emb` (JSON: what made the vectors, and their fingerprint) and,
where footprints are known, `geo` (GeoParquet 1.1, whose default CRS is OGC:CRS84). Any Parquet
reader opens a part; this one also checks the page checksums, which readers leave out by default.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import re
import struct
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from rejepa_jax.retrieval.exact import check_vectors
from rejepa_jax.types import ConfigError, DataError

SCHEMA = "rejepa-embeddings/1"
PART_NAME = re.compile(r"part-(\d{5})-of-(\d{5})\.parquet")
ROWS_A_GROUP = 16384
REQUIRED = ("id", "uuid", "row", "embedding", "sensor")
ALWAYS_READ = ("id", "row", "embedding", "labels", "split", "sensor")
EDGES = ("xmin", "ymin", "xmax", "ymax")
NAMES = pa.dictionary(pa.int32(), pa.string())
NULLABLE = {
    "sensor": NAMES,
    "collection": NAMES,
    "split": NAMES,
    "proj_code": pa.string(),
    "proj_transform": pa.list_(pa.float64()),
    "proj_shape": pa.list_(pa.int32()),
    "source_uri": pa.string(),
}


@dataclasses.dataclass(frozen=True)
class EmbeddingPart:
    """Columns of one part; a column left out is unknown for every row.

    Within a column `""`, `()`, `b""` and NaN mean unknown, as in `data.examples.Example`.
    `proj_transform` is the affine a b c d e f, `proj_shape` height and width, `geometry` a WKB
    polygon or multipolygon in degrees, `datetime` the acquisition in ISO 8601.
    """

    first_row: int
    ids: Sequence[str]
    vectors: Float[np.ndarray, "r d"]
    sensor: Sequence[str]
    labels: Sequence[Sequence[str]]
    collection: Sequence[str] = ()
    split: Sequence[str] = ()
    geometry: Sequence[bytes] = ()
    proj_code: Sequence[str] = ()
    proj_transform: Sequence[tuple[float, ...]] = ()
    proj_shape: Sequence[tuple[int, ...]] = ()
    datetime: Sequence[str] = ()
    source_uri: Sequence[str] = ()
    valid_fraction: Sequence[float] | np.ndarray = ()


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """All parts of an export, in row order; `table` has every column read but the vectors."""

    ids: list[str]
    vectors: Float[np.ndarray, "r d"]
    labels: list[list[str]]
    split: list[str]
    sensor: list[str]
    footer: dict[str, Any]
    table: pa.Table

    @property
    def fingerprint(self) -> str:
        """What made the vectors: only equal fingerprints may be compared."""
        return self.footer["fingerprint"]


def part_name(part: int, parts: int) -> str:
    """Names part `part` of `parts`, counted from 0."""
    return f"part-{part:05d}-of-{parts:05d}.parquet"


def write_part(path: Path, part: EmbeddingPart, footer: dict[str, Any]) -> None:
    """Writes one part under a temporary name, then renames it: a part that exists is whole.

    `footer` describes what made the vectors: `fingerprint` at least, and model, preprocessing,
    licence, versions as the caller knows them. What the file itself shows is added here.
    """
    rows, dimension = part.vectors.shape
    _check_part(path, part, footer)
    columns = _columns(part, footer["fingerprint"])
    facts = {"dimension": dimension, "dtype": "float32", "normalized": True, "metric": "cosine"}
    metadata = {"emb": footer | {"schema": SCHEMA, "rows": rows} | facts}
    if any(part.geometry):
        boxes, metadata["geo"] = _boxes(part)
        columns |= {"geometry": _nullable(part.geometry, pa.binary(), rows), "bbox": boxes}
    table = pa.table(columns)
    schema = pa.schema([field.with_nullable(field.name not in REQUIRED) for field in table.schema])
    schema = schema.with_metadata({key: json.dumps(value) for key, value in metadata.items()})
    unfinished = path.with_name(path.name + ".tmp")
    pq.write_table(
        table.cast(schema),
        unfinished,
        compression="zstd",
        row_group_size=ROWS_A_GROUP,
        write_page_checksum=True,
        write_page_index=True,
        use_dictionary=[*NULLABLE, "labels.list.element"],
    )
    os.replace(unfinished, path)


def _check_part(path: Path, part: EmbeddingPart, footer: dict[str, Any]) -> None:
    if not footer.get("fingerprint"):
        raise ConfigError(f"{path}: got no fingerprint in the footer, expected the encoder's")
    rows = len(part.vectors)
    for field in dataclasses.fields(part)[1:]:
        length, needed = len(getattr(part, field.name)), field.default is dataclasses.MISSING
        if length != rows and (length or needed):
            raise ConfigError(
                f"{path}: got {length} values of {field.name} for {rows} vectors, expected {rows}"
            )
    check_vectors(part.vectors, path.name)


def _columns(part: EmbeddingPart, fingerprint: str) -> dict[str, pa.Array]:
    rows, dimension = part.vectors.shape
    vectors = pa.array(np.ascontiguousarray(part.vectors, np.float32).reshape(-1))
    collections = part.collection or [""] * rows
    uuids = [
        str(uuid.uuid5(uuid.NAMESPACE_URL, f"{fingerprint}/{collection}/{name}"))
        for collection, name in zip(collections, part.ids, strict=True)
    ]
    fractions = part.valid_fraction if len(part.valid_fraction) else np.full(rows, np.nan)
    return {
        "id": pa.array(part.ids, pa.string()),
        "uuid": pa.array(uuids, pa.string()),
        "row": pa.array(np.arange(part.first_row, part.first_row + rows, dtype=np.int64)),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors, type=_vector_type(dimension)),
        "labels": pa.array(part.labels, pa.list_(pa.string())),
        "datetime": _nullable(_times(part), pa.timestamp("us", tz="UTC"), rows),
        "valid_fraction": pa.array(np.asarray(fractions, np.float32), from_pandas=True),
    } | {name: _nullable(getattr(part, name), kind, rows) for name, kind in NULLABLE.items()}


def _vector_type(dimension: int) -> pa.DataType:
    return pa.list_(pa.field("element", pa.float32(), nullable=False), dimension)


def _nullable(values: Sequence[Any], kind: pa.DataType, rows: int) -> pa.Array:
    return pa.array([value or None for value in values] or [None] * rows, kind)


def _times(part: EmbeddingPart) -> list[datetime.datetime | None]:
    times = []
    for name, text in zip(part.ids, part.datetime, strict=False):
        try:
            times.append(datetime.datetime.fromisoformat(text) if text else None)
        except ValueError as error:
            raise DataError(
                f"{name}: got datetime {text!r}, expected ISO 8601 such as 2017-06-13T10:10:31Z"
            ) from error
    return times


def _boxes(part: EmbeddingPart) -> tuple[pa.Array, dict[str, Any]]:
    """Computes the covering column, rounded outward to float32, and the `geo` footer."""
    bounds, kinds = np.full((len(part.ids), 4), np.nan), set()
    for i, (name, wkb) in enumerate(zip(part.ids, part.geometry, strict=True)):
        if not wkb:
            continue
        try:
            kind, points = _footprint(wkb)
            bounds[i] = *points.min(axis=0), *points.max(axis=0)
        except (ValueError, IndexError, struct.error) as error:
            raise DataError(f"{name}: got a geometry that is no WKB (multi)polygon") from error
        kinds.add(kind)
        if not (np.abs(bounds[i]) <= [180, 90, 180, 90]).all():
            raise DataError(f"{name}: got a footprint over {bounds[i]}, expected degrees lon lat")
    outward = np.array([-np.inf, -np.inf, np.inf, np.inf], np.float32)
    nearest = bounds.astype(np.float32)
    inside = (bounds - nearest) * np.sign(outward) > 0
    boxes = np.where(inside, np.nextafter(nearest, outward), nearest)
    column = {
        "encoding": "WKB",
        "geometry_types": sorted(kinds),
        "bbox": [*np.nanmin(bounds[:, :2], axis=0), *np.nanmax(bounds[:, 2:], axis=0)],
        "covering": {"bbox": {edge: ["bbox", edge] for edge in EDGES}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    unknown = pa.array(np.isnan(bounds[:, 0]))
    return pa.StructArray.from_arrays([*map(pa.array, boxes.T)], EDGES, mask=unknown), geo


def _footprint(wkb: bytes) -> tuple[str, np.ndarray]:
    """Reads a WKB geometry: its GeoParquet name and all points [p 2]."""
    kind, count = struct.unpack_from("<II" if wkb[0] else ">II", wkb, 1)
    name = {3: "Polygon", 6: "MultiPolygon"}.get(kind)
    if name is None:
        raise ValueError(f"WKB geometry of type {kind}")
    points, at, polygons = [], 9 * (kind == 6), count if kind == 6 else 1
    for _ in range(polygons):
        order = "<" if wkb[at] else ">"
        (rings,) = struct.unpack_from(f"{order}I", wkb, at + 5)
        at += 9
        for _ in range(rings):
            (count,) = struct.unpack_from(f"{order}I", wkb, at)
            points.append(np.frombuffer(wkb, f"{order}f8", 2 * count, at + 4).reshape(-1, 2))
            at += 4 + 16 * count
    return name, np.concatenate(points)


def read(source: Path | Sequence[Path], columns: Sequence[str] | None = None) -> Embeddings:
    """Reads and checks every part in a folder, or the parts listed.

    `columns` names what `table` holds beside the columns that are always read; None: all.

    Raises:
      FileNotFoundError: there is no part.
      DataError: a part is damaged, missing, of another encoder, out of order, or repeats an id.
      ConfigError: a column that no part has.
    """
    paths = source.glob("*.parquet") if isinstance(source, Path) else source
    paths = sorted(paths, key=lambda path: path.name)
    if not paths:
        raise FileNotFoundError(f"{source}: got no part, expected {part_name(0, 1)} or more")
    _check_names(paths)
    footers = [_read_footer(path) for path in paths]
    _check_footers(paths, footers)
    footer = footers[0] | {"rows": sum(other["rows"] for other in footers)}
    vectors = np.empty((footer["rows"], footer["dimension"]), np.float32)
    tables, ids, row = [], set(), 0
    for path in paths:
        with _open(path) as file:
            table = file.read(None if columns is None else [*ALWAYS_READ, *columns])
        _check_rows(path, table, row, ids)
        for chunk in table["embedding"].chunks:
            vectors[row : row + len(chunk)] = (
                chunk.flatten().to_numpy().reshape(-1, vectors.shape[1])
            )
            row += len(chunk)
        tables.append(table.drop_columns(["embedding"]))
    table = pa.concat_tables(tables, promote_options="default")
    if unknown := set(columns or ()) - {*table.column_names, "embedding"}:
        raise ConfigError(f"got columns {sorted(unknown)}, expected some of {table.column_names}")
    return Embeddings(
        ids=table["id"].to_pylist(),
        vectors=vectors,
        labels=[labels or [] for labels in table["labels"].to_pylist()],
        split=[split or "" for split in table["split"].to_pylist()],
        sensor=table["sensor"].to_pylist(),
        footer=footer,
        table=table,
    )


def _check_names(paths: list[Path]) -> None:
    match = PART_NAME.fullmatch(paths[0].name)
    count = int(match[2]) if match else 0
    names, expected = {path.name for path in paths}, {part_name(i, count) for i in range(count)}
    if names != expected:
        raise DataError(
            f"{paths[0].parent}: missing parts {sorted(expected - names)[:5]}, unexpected files "
            f"{sorted(names - expected)[:5]}, expected one whole export; export into a new folder"
        )


@contextlib.contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """Opens a part with its page checksums checked; what is damaged is told as a fault of data."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: got a damaged file ({error}), expected a Parquet part; export it again"
        ) from error


def _read_footer(path: Path) -> dict[str, Any]:
    """Reads the key `emb` and holds it against the columns."""
    with _open(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    text = (schema.metadata or {}).get(b"emb", b"")
    try:
        footer = json.loads(text)
        if footer["schema"] != SCHEMA or not footer["fingerprint"]:
            raise ValueError(f"schema {footer['schema']}")
        expected = footer["rows"], _vector_type(footer["dimension"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path}: got footer `emb` {text[:99]}, expected {SCHEMA}; export it again"
        raise DataError(message) from error
    if missing := set(ALWAYS_READ) - set(schema.names):
        raise DataError(f"{path}: got no columns {sorted(missing)}; export it again")
    got = rows, schema.field("embedding").type
    if got != expected:
        raise DataError(f"{path}: got (rows, type) {got}, expected {expected}; export it again")
    return footer


def _check_footers(paths: list[Path], footers: list[dict[str, Any]]) -> None:
    for path, footer in zip(paths, footers, strict=True):
        for key in ("fingerprint", "dimension"):
            if footer[key] != footers[0][key]:
                raise DataError(
                    f"{path}: got {key} {footer[key]}, expected {footers[0][key]} as in "
                    f"{paths[0].name}; vectors of different encoders do not mix, export again"
                )


def _check_rows(path: Path, table: pa.Table, first: int, ids: set[str]) -> None:
    """Refuses rows out of order, repeated ids and missing vectors; adds the part's ids to `ids`."""
    rows = table["row"].to_numpy()
    if not np.array_equal(rows, np.arange(first, first + len(table))):
        raise DataError(
            f"{path}: got rows {rows[:1]} to {rows[-1:]} or out of order, expected {first} to "
            f"{first + len(table) - 1} one by one; parts were renamed or come from two exports"
        )
    if empty := table["embedding"].null_count:
        raise DataError(f"{path}: got {empty} rows without a vector; export it again")
    for name in table["id"].to_pylist():
        if name in ids:
            raise DataError(f"{path}: got id {name!r} twice, expected unique ids; rename the image")
        ids.add(name)
