"""Writes a part whole or not at all."""

import contextlib
import dataclasses
import datetime
import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rejepa_jax.retrieval.embeddings import stored
from rejepa_jax.retrieval.embeddings.boxes import boxes
from rejepa_jax.retrieval.embeddings.schema import (
    FRACTIONS,
    NULLABLE,
    SCHEMA,
    WITHOUT_NULLS,
    EmbeddingPart,
)
from rejepa_jax.retrieval.exact import check_vectors
from rejepa_jax.types import ConfigError, DataError

ROWS_A_GROUP = 16384
_SECRET = re.compile(r"(?<=://)[^/?#]*@|[?].*", re.DOTALL)  # user:password@, query of a URL


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a name to write under; the file gets its own once it is on the disk to its end."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_part(
    path: Path, part: EmbeddingPart, footer: dict[str, Any], dtype: str = "float32"
) -> None:
    """Writes one part under a temporary name, then renames it: a part that exists is whole.

    `footer` describes what made the vectors: `fingerprint` at least, and model, preprocessing,
    licence, versions as the caller knows them. What the file itself shows is added here. Equal
    rows, footers and dtypes give equal bytes.

    Raises:
      ConfigError: no fingerprint, columns of different lengths, an unknown dtype.
      DataError: a vector is not finite or not of length 1; a time, footprint or text is none.
    """
    rows, dimension = part.vectors.shape
    _check_part(path, part, footer)
    stored.check_dtype(dtype)
    columns = _columns(part, footer["fingerprint"], dtype)
    facts = {"dimension": dimension, "dtype": dtype, "normalized": dtype == "float32"}
    facts |= {"metric": "cosine", "quantization": stored.quantization(dtype)}
    metadata = {"emb": footer | {"schema": SCHEMA, "rows": rows} | facts}
    if any(part.geometry):
        covering, metadata["geo"] = boxes(part.ids, part.geometry)
        columns |= {"geometry": _nullable(part.geometry, pa.binary(), rows), "bbox": covering}
    table = pa.table(columns)
    fields = [field.with_nullable(field.name not in WITHOUT_NULLS) for field in table.schema]
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    with whole(path) as unfinished:
        pq.write_table(
            table.cast(pa.schema(fields, texts)),
            unfinished,
            compression="zstd",
            row_group_size=ROWS_A_GROUP,
            write_page_checksum=True,
            write_page_index=True,
            use_dictionary=[*NULLABLE, "labels.list.element"],
        )


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
    for name, values in (("id", part.ids), ("sensor", part.sensor)):
        if "" in values:
            row = part.first_row + list(values).index("")
            raise DataError(f"row {row}: got an empty {name}, expected a name; give it one")
    check_vectors(part.vectors, path.name)


def _columns(part: EmbeddingPart, fingerprint: str, dtype: str) -> dict[str, pa.Array]:
    rows = len(part.vectors)
    named = {name: getattr(part, name) for name in NULLABLE}
    named["source_uri"] = [public(uri) for uri in part.source_uri]
    try:
        return {
            "id": pa.array(part.ids, pa.string()),
            "uuid": pa.array(_uuids(part, fingerprint), pa.string()),
            "row": pa.array(np.arange(part.first_row, part.first_row + rows, dtype=np.int64)),
            **stored.to_columns(part.vectors, dtype),
            "labels": pa.array(part.labels, pa.list_(pa.string())),
            "datetime": _nullable(_times(part), pa.timestamp("us", tz="UTC"), rows),
            **{name: _fractions(getattr(part, name), rows) for name in FRACTIONS},
            **{name: _nullable(named[name], kind, rows) for name, kind in NULLABLE.items()},
        }
    except UnicodeEncodeError as error:
        raise DataError(
            f"rows from {part.first_row}: got the text {error.object!r}, expected Unicode; rename "
            "the image or label"
        ) from error


def _uuids(part: EmbeddingPart, fingerprint: str) -> list[str]:
    collections = part.collection or [""] * len(part.ids)
    return [
        str(uuid.uuid5(uuid.NAMESPACE_URL, f"{fingerprint}/{collection}/{name}"))
        for collection, name in zip(collections, part.ids, strict=True)
    ]


def public(uri: str) -> str:
    """Returns where something lies without credentials and signatures, which are not exported."""
    return _SECRET.sub("", uri) if "://" in uri or uri.startswith("/vsi") else uri


def _fractions(values: Sequence[float] | np.ndarray, rows: int) -> pa.Array:
    known = np.asarray(values if len(values) else np.full(rows, np.nan), np.float32)
    return pa.array(known, from_pandas=True)


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
