"""Reads exports, whole or in pieces; every part is checked, its page checksums too."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from rejepa_jax.retrieval.embeddings import stored
from rejepa_jax.retrieval.embeddings.parts import Parts, open_parts
from rejepa_jax.retrieval.embeddings.schema import Embeddings
from rejepa_jax.retrieval.exact import check_vectors
from rejepa_jax.types import DataError

ROWS = 8192  # decoded at a time
VECTORS = ["row", "embedding"]  # columns: the vectors, and what shows that they are in order


def read(source: Path | Sequence[Path], columns: Sequence[str] | None = None) -> Embeddings:
    """Reads and checks every part in a folder, or the parts listed.

    `columns` names what `table` holds beside the columns that are always read; None: all. The
    vectors are of length 1, in whatever form they are stored.

    Raises:
      FileNotFoundError: there is no part.
      DataError: a part is damaged, missing, of another encoder, out of order, or repeats an id.
      ConfigError: a column that no part has.
    """
    parts = open_parts(source)
    names = parts.choose(columns)
    vectors = np.empty((parts.footer["rows"], parts.footer["dimension"]), np.float32)
    batches, row = [], 0
    for batch, decoded in _decoded(parts, names, ROWS):
        vectors[row : row + len(batch)] = decoded
        row += len(batch)
        batches.append(batch.drop_columns(["embedding"]))
    table = _joined(parts, [name for name in names if name != "embedding"], batches)
    return Embeddings(
        ids=table["id"].to_pylist(),
        vectors=vectors,
        labels=[labels or [] for labels in table["labels"].to_pylist()],
        split=[split or "" for split in table["split"].to_pylist()],
        sensor=table["sensor"].to_pylist(),
        footer=parts.footer,
        table=table,
    )


def read_columns(
    source: Path | Sequence[Path], columns: Sequence[str] | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Reads all but the vectors, which are not even loaded, and the footer; checks as `read`."""
    parts = open_parts(source)
    names = [name for name in parts.choose(columns) if name != "embedding"]
    return _joined(parts, names, list(parts.batches(names, ROWS))), parts.footer


def read_vectors(source: Path | Sequence[Path]) -> Float32[np.ndarray, "r d"]:
    """Reads the vectors alone; checks what `iterate` checks."""
    parts = open_parts(source)
    vectors = np.empty((parts.footer["rows"], parts.footer["dimension"]), np.float32)
    row = 0
    for batch, decoded in _decoded(parts, VECTORS, ROWS):
        vectors[row : row + len(batch)] = decoded
        row += len(batch)
    return vectors


def copy_vectors(source: Path | Sequence[Path], path: Path) -> dict[str, Any]:
    """Writes the vectors alone into a numpy file, a piece at a time; returns the footer.

    Checks what `iterate` checks.
    """
    parts = open_parts(source)
    shape = parts.footer["rows"], parts.footer["dimension"]
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:  # not mapped: a full disk is an error, not the process's end
        np.lib.format.write_array_header_1_0(file, header)
        for _, decoded in _decoded(parts, VECTORS, ROWS):
            file.write(np.ascontiguousarray(decoded, "<f4").data)
    return parts.footer


def iterate(
    source: Path | Sequence[Path], columns: Sequence[str] | None = None, rows: int = ROWS
) -> Iterator[pa.RecordBatch]:
    """Yields up to so many rows at a time, all of one schema, `embedding` as float32.

    Checks what `read` checks, but not whether an id is there twice.
    """
    parts = open_parts(source)
    for batch, decoded in _decoded(parts, parts.choose(columns), rows):
        place = batch.schema.get_field_index("embedding")
        column = stored.to_float32(decoded)
        field = pa.field("embedding", column.type, nullable=False)
        yield batch.set_column(place, field, column)


def _decoded(
    parts: Parts, names: list[str], rows: int
) -> Iterator[tuple[pa.RecordBatch, Float32[np.ndarray, "r d"]]]:
    """Yields batches with their vectors, which are finite and of length 1."""
    dtype, dimension = parts.footer["dtype"], parts.footer["dimension"]
    row = 0
    for batch in parts.batches(names, rows):
        source = f"{parts.paths[0].parent}, rows from {row}"
        decoded = stored.decode(batch["embedding"], dtype, dimension)
        check_vectors(decoded, source)
        row += len(batch)
        yield batch, decoded


def _joined(parts: Parts, names: list[str], batches: list[pa.RecordBatch]) -> pa.Table:
    schema = pa.schema([parts.schema.field(name) for name in names])
    table = pa.Table.from_batches(batches, schema).unify_dictionaries()
    _refuse_repeated(parts, table["id"])
    return table


def _refuse_repeated(parts: Parts, ids: pa.ChunkedArray) -> None:
    if len(ids.unique()) == len(ids):
        return
    names, counts = ids.value_counts().flatten()
    repeated = names[int(np.argmax(counts.to_numpy() > 1))].as_py()
    row = ids.index(repeated, start=ids.index(repeated).as_py() + 1).as_py()
    ends = np.cumsum([footer["rows"] for footer in parts.footers])
    path = parts.paths[int(np.searchsorted(ends, row, side="right"))]
    raise DataError(f"{path}: got id {repeated!r} twice, expected unique ids; rename the image")
