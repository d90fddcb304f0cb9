"""The parts of one export: all there, undamaged, of one encoder, each with the rows it promises."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rejepa_jax.retrieval.embeddings import stored
from rejepa_jax.retrieval.embeddings.schema import (
    ALWAYS_READ,
    NEEDED,
    PART_NAME,
    SCHEMA,
    part_name,
)
from rejepa_jax.types import ConfigError, DataError

COMMON = ("fingerprint", "dimension", "dtype")  # must be the same in all parts


@dataclasses.dataclass(frozen=True)
class Parts:
    """Paths in order, their footers, and a schema that holds the columns of all of them."""

    paths: list[Path]
    footers: list[dict[str, Any]]
    schema: pa.Schema

    @property
    def footer(self) -> dict[str, Any]:
        """The first part's, with the rows of all."""
        return self.footers[0] | {"rows": sum(footer["rows"] for footer in self.footers)}

    def choose(self, columns: Sequence[str] | None) -> list[str]:
        """Returns the columns asked for and those always read, in the file's order; None: all.

        Raises:
          ConfigError: a column that no part has.
        """
        names = self.schema.names
        if unknown := set(columns or ()) - set(names):
            raise ConfigError(f"got columns {sorted(unknown)}, expected some of {names}")
        wanted = names if columns is None else {*ALWAYS_READ, *columns}
        return [name for name in names if name in wanted]

    def batches(self, names: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yields some columns of all rows in order; a column that a part lacks is null there.

        Raises:
          DataError: a part is damaged, its rows are not one by one, or a vector is missing.
        """
        schema = pa.schema([self.schema.field(name) for name in names])
        row = 0
        for path, footer in zip(self.paths, self.footers, strict=True):
            end = row + footer["rows"]
            with opened(path) as file:
                there = [name for name in names if name in file.schema_arrow.names]
                for batch in file.iter_batches(rows, columns=there):
                    batch.validate(full=True)
                    _check_rows(path, batch, row, end)
                    row += len(batch)
                    yield _filled(batch, schema)
            if row != end:
                raise DataError(f"{path}: got rows to {row}, expected {end}; export it again")


def open_parts(source: Path | Sequence[Path]) -> Parts:
    """Opens every part in a folder, or the parts listed; reads no column.

    Raises:
      FileNotFoundError: there is no part.
      DataError: a part is damaged, missing or of another encoder.
    """
    paths = source.glob("*.parquet") if isinstance(source, Path) else source
    paths = sorted(paths, key=lambda path: path.name)
    if not paths:
        raise FileNotFoundError(f"{source}: got no part, expected {part_name(0, 1)} or more")
    _check_names(paths)
    footers, schemas = zip(*map(read_footer, paths), strict=True)
    for path, footer in zip(paths, footers, strict=True):
        for key in COMMON:
            if footer[key] != footers[0][key]:
                raise DataError(
                    f"{path}: got {key} {footer[key]}, expected {footers[0][key]} as in "
                    f"{paths[0].name}; vectors of different encoders do not mix, export again"
                )
    try:
        schema = pa.unify_schemas([schema.remove_metadata() for schema in schemas])
    except pa.ArrowException as error:
        raise DataError(f"{paths[0].parent}: {error}; export into a new folder") from error
    return Parts(paths, list(footers), schema)


def _check_names(paths: list[Path]) -> None:
    match = PART_NAME.fullmatch(paths[0].name)
    count = int(match[2]) if match else 0
    names, expected = {path.name for path in paths}, {part_name(i, count) for i in range(count)}
    if names != expected:
        raise DataError(
            f"{paths[0].parent}: missing parts {sorted(expected - names)[:5]}, unexpected files "
            f"{sorted(names - expected)[:5]}, expected one whole export; run export again, into a "
            "new folder if these are of two"
        )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Opens a part with its page checksums checked; what is damaged is told as a fault of data."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: got a damaged file ({error}), expected a Parquet part; export it again"
        ) from error


def read_footer(path: Path) -> tuple[dict[str, Any], pa.Schema]:
    """Reads the key `emb` and the columns' types, and holds them against each other."""
    with opened(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    text = (schema.metadata or {}).get(b"emb", b"")
    try:
        footer = _parse(text)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: got footer `emb` {text[:99]} ({error}), expected {SCHEMA}; export it again"
        ) from error
    if rows != footer["rows"]:
        raise DataError(f"{path}: got {rows} rows, expected {footer['rows']}; export it again")
    vectors = stored.column_type(footer["dtype"], footer["dimension"])
    for name, expected in (NEEDED | {"embedding": vectors}).items():
        got = schema.field(name).type if name in schema.names else "none"
        if got != expected:
            raise DataError(
                f"{path}: got column {name} of type {got}, expected {expected}; export it again"
            )
    return footer, schema


def _parse(text: bytes) -> dict[str, Any]:
    """Reads a footer that may come from anyone; what it says beyond its needs is not looked at."""
    footer = json.loads(text)
    if footer["schema"] != SCHEMA:
        raise ValueError(f"schema {footer['schema']}")
    footer = {"dtype": "float32"} | footer
    if not (isinstance(footer["fingerprint"], str) and footer["fingerprint"]):
        raise ValueError("no fingerprint")
    for key, least in (("rows", 0), ("dimension", 1)):
        if type(footer[key]) is not int or footer[key] < least:
            raise ValueError(f"{key} {footer[key]}")
    if footer["dimension"] > stored.MAX_DIMENSION:
        raise ValueError(f"dimension {footer['dimension']}")
    known = stored.quantization(footer["dtype"])
    if footer.get("quantization") != known:
        raise ValueError(f"quantization {footer.get('quantization')}, known is {known}")
    return footer


def _check_rows(path: Path, batch: pa.RecordBatch, first: int, end: int) -> None:
    """Refuses rows out of order and missing vectors."""
    rows = batch["row"].to_numpy(zero_copy_only=False)
    last = first + len(batch)
    if last > end or not np.array_equal(rows, np.arange(first, last)):
        raise DataError(
            f"{path}: got rows {rows[:1]} to {rows[-1:]} or out of order, expected {first} to "
            f"{min(last, end) - 1} one by one; parts were renamed or come from two exports"
        )
    if "embedding" in batch.schema.names and (empty := batch["embedding"].null_count):
        raise DataError(f"{path}: got {empty} rows without a vector; export it again")


def _filled(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        batch[field.name] if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
