"""What every engine is given: the rows of an export in one flat form, and the mark they leave.

The columns are the same everywhere, and mean what they mean in an answer of our own search: `lon`
and `lat` are the middle of the footprint, `west` to `north` its bounds (`west` > `east` across the
antimeridian), `datetime` the acquisition. Null is unknown; without labels, `labels` is empty.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from rejepa_jax.retrieval.collection.catalogue import COLUMNS, Catalogue
from rejepa_jax.retrieval.collection.parts import find_exports, refuse_repeated
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.embeddings.parts import open_parts
from rejepa_jax.types import DataError

SCHEMA = "rejepa-load/1"
TEXTS = ("id", "uuid", "split", "sensor", "collection", "place", "source_uri")
SIDES = ("west", "south", "east", "north")  # PostgreSQL has an xmin and an xmax of its own
NUMBERS = ("lon", "lat", *SIDES)


@dataclasses.dataclass(frozen=True)
class Export:
    """One export, or the base of a run and what was added to it since, without what is deleted."""

    paths: tuple[Path, ...]
    live: Bool[np.ndarray, " r"]
    dim: int
    fingerprint: str

    @property
    def rows(self) -> int:
        """How many rows are loaded."""
        return int(self.live.sum())

    @property
    def mark(self) -> dict[str, Any]:
        """What is stored with every collection, so that it is known as ours, and whose it is."""
        return {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "rows": self.rows,
            "dim": self.dim,
            "metric": "inner product of unit vectors",
        }

    @property
    def schema(self) -> pa.Schema:
        """The columns of `batches`, with the mark as metadata."""
        fields = {
            "id": pa.string(),
            "embedding": pa.list_(pa.float32(), self.dim),
            "row": pa.int64(),
            "labels": COLUMNS["labels"],
            "datetime": COLUMNS["datetime"],
            **dict.fromkeys(TEXTS[1:], pa.string()),
            **dict.fromkeys(NUMBERS, pa.float64()),
            "geometry": COLUMNS["geometry"],
        }
        return pa.schema(fields, metadata={"rejepa": json.dumps(self.mark)})

    def batches(self, rows: int = 4096) -> Iterator[pa.RecordBatch]:
        """Yields the rows in their order, some at a time; `row` is the number in our own search."""
        first = 0
        for path in self.paths:
            for batch in reading.iterate(path, rows=rows):
                numbers = np.arange(first, first + len(batch))
                first += len(batch)
                live = self.live[numbers]
                if live.any():
                    yield self._flat(batch.filter(pa.array(live)), numbers[live])

    def _flat(self, batch: pa.RecordBatch, rows: np.ndarray) -> pa.RecordBatch:
        catalogue = Catalogue(pa.Table.from_batches([batch]))
        known = {name: catalogue.table[name].combine_chunks() for name in COLUMNS}
        labels = [names or [] for names in known["labels"].to_pylist()]
        numbers = np.concatenate([catalogue.points, catalogue.boxes], axis=1).T
        known |= dict(zip(NUMBERS, numbers, strict=True))
        known |= {"row": rows, "labels": labels, "embedding": batch["embedding"]}
        columns = [_column(known[field.name], field.type) for field in self.schema]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values.cast(kind)
    return pa.array(values, kind, from_pandas=True)


def open_export(source: Path) -> Export:
    """Opens what is current of a run, or an export by itself.

    Raises:
      FileNotFoundError: there is no part, or the stage that makes them has not finished.
      DataError: parts do not belong together, an id is there twice, or there is no row.
    """
    found = find_exports(source)
    for path in found.paths:
        if "uuid" not in open_parts(path).schema.names:
            raise DataError(f"{path}: got no column uuid, expected one; export again")
    if not found.live.any():
        raise DataError(f"{source}: got no rows, expected at least one; embed some images first")
    # Before anything is written: not every engine minds an id that is there twice.
    refuse_repeated(source, found.read_ids())
    footer = found.footer
    return Export(found.paths, found.live, footer["dimension"], footer["fingerprint"])


def vectors(batch: pa.RecordBatch) -> Float[np.ndarray, "r d"]:
    """The vectors of a batch, without a copy."""
    column = batch["embedding"]
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)


def facts(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The columns but the vectors, row by row."""
    return batch.drop_columns(["embedding"]).to_pylist()


def read_mark(text: str | bytes | None) -> Mapping[str, Any]:
    """The mark of a collection that is there, from its JSON; empty if it is none of ours."""
    try:
        mark = json.loads(text or "{}")
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) and mark.get("schema") == SCHEMA else {}
