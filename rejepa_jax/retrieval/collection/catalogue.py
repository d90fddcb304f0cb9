"""What is known of each image beside its vector, as Arrow columns: no list of Python objects.

A row number is a position in the columns: first the rows of the index, then what was added since.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from rejepa_jax.retrieval.collection import places
from rejepa_jax.retrieval.collection.places import EDGES
from rejepa_jax.types import DataError

CODED = pa.dictionary(pa.int32(), pa.string())
COLUMNS = {  # that an answer shows, and that a filter asks
    "id": pa.string(),
    "uuid": pa.string(),
    "labels": pa.list_(pa.string()),  # kept here as numbers
    "split": CODED,
    "sensor": CODED,
    "collection": CODED,
    "datetime": pa.timestamp("us", tz="UTC"),
    "place": CODED,
    "source_uri": pa.string(),
    "geometry": pa.binary(),
    "bbox": pa.struct([(edge, pa.float32()) for edge in EDGES]),
}


class Catalogue:
    """The columns of all rows; `live` is false for the rows that were deleted."""

    def __init__(self, table: pa.Table, live: Bool[np.ndarray, " r"] | None = None):
        # One chunk a column: in many, to take a few rows goes through all of them.
        columns = {name: _column(table, name, kind) for name, kind in COLUMNS.items()}
        self.table = pa.table(columns).combine_chunks()
        self.live = np.ones(len(table), bool) if live is None else live
        self._codes: dict[str, tuple[Int[np.ndarray, " r"], pa.Array]] = {}

    @property
    def rows(self) -> int:
        """All rows, the deleted too: one more than the largest row number."""
        return len(self.table)

    def id(self, row: int | np.integer) -> str:
        """Returns the id of a row."""
        return self.table["id"][int(row)].as_py()

    def known(self, ids: Sequence[str]) -> dict[str, int]:
        """Returns the rows of those of some ids that are there, and not deleted."""
        wanted = pa.array([name for name in set(ids) if _is_text(name)], pa.string())
        # One pass over the column with a small table of what is looked for: no index to keep.
        options = pc.SetLookupOptions(value_set=wanted)
        is_wanted = pc.call_function("is_in", [self.table["id"]], options)
        rows = np.flatnonzero(_numpy(is_wanted) & self.live)
        names = self.table["id"].take(pa.array(rows)).to_pylist()
        return dict(zip(names, rows.tolist(), strict=True))

    def find(self, ids: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Returns the row of each id.

        Raises:
          DataError: naming those that are not there.
        """
        known = self.known(ids)
        if unknown := [name for name in ids if name not in known]:
            raise DataError(
                f"got {len(unknown)} ids that are not there, such as {unknown[0][:200]!r}, "
                f"expected ids of the {int(self.live.sum())} images searched; `rejepa search` "
                "shows ids"
            )
        return np.array([known[name] for name in ids], np.int64)

    def facts(self, row: int | np.integer) -> dict[str, Any]:
        """Returns what is known of one row."""
        return self.describe([int(row)])[0]

    def describe(self, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Returns what is known of some rows.

        `""`, `[]` and `b""` mean unknown, as does None for `bbox`, `lon` and `lat`. A `bbox` with
        xmin > xmax crosses the antimeridian, as in GeoJSON.
        """
        rows = np.asarray(rows, np.int64)
        facts = self.table.take(pa.array(rows)).to_pylist()
        where = zip(self.boxes[rows], self.points[rows], strict=True)
        for fact, row, (box, point) in zip(facts, rows, where, strict=True):
            time, is_known = fact["datetime"], not np.isnan(point).any()
            fact |= {
                "row": int(row),
                "labels": fact["labels"] or [],
                "datetime": time.isoformat().replace("+00:00", "Z") if time else "",
                "geometry": fact["geometry"] or b"",
                "bbox": tuple(map(float, box)) if is_known else None,
                "lon": float(point[0]) if is_known else None,
                "lat": float(point[1]) if is_known else None,
            }
            fact |= {name: fact[name] or "" for name in TEXTS}
        return facts

    def codes(self, column: str) -> tuple[Int[np.ndarray, " r"], pa.Array]:
        """Returns a column of names as numbers, -1 where unknown, and the names by number."""
        if column not in self._codes:
            self._codes[column] = _coded(self.table[column])
        return self._codes[column]

    @functools.cached_property
    def labels(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], pa.Array]:
        """Every label of every row as two numbers, its row and its name, and the names."""
        lists = self.table["labels"].chunks
        counts = np.concatenate(
            [np.zeros(0, int), *(_numpy(each.value_lengths()) for each in lists)]
        )
        rows = np.repeat(np.arange(self.rows, dtype=np.int32), counts)
        values = pa.chunked_array([chunk.flatten() for chunk in lists], CODED)
        return rows, *_coded(values)

    def names(self, column: str) -> list[str]:
        """Returns the different names in a column, or of labels, that are not deleted; sorted."""
        if column == "labels":
            rows, codes, names = self.labels
            codes = codes[self.live[rows]]
        else:
            codes, names = self.codes(column)
            codes = codes[self.live]
        used = np.unique(codes[codes >= 0])
        return sorted(names.take(pa.array(used)).to_pylist())

    @functools.cached_property
    def boxes(self) -> Float[np.ndarray, "r 4"]:
        """The bounds in degrees: xmin > xmax across the antimeridian, NaN where unknown."""
        return places.bounds(self.table["bbox"], self.table["geometry"])

    @functools.cached_property
    def points(self) -> Float[np.ndarray, "r 2"]:
        """Longitude and latitude of the middle of the bounds; NaN where unknown."""
        return places.middle(self.boxes)

    @functools.cached_property
    def times(self) -> Int[np.ndarray, " r"]:
        """When it was acquired, in microseconds since 1970 UTC; the least int64 where unknown."""
        numbers = self.table["datetime"].cast(pa.int64()).fill_null(np.iinfo(np.int64).min)
        return _numpy(numbers)

    @property
    def has_places(self) -> bool:
        """Whether any image says of which place it is one of several."""
        return self.table["place"].null_count < self.rows


TEXTS = tuple(name for name, kind in COLUMNS.items() if kind in (pa.string(), CODED))


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """Returns a column as it is wanted; nulls where an export does not have it."""
    unknown = pa.chunked_array([pa.nulls(len(table), kind)], kind)
    column = table[name] if name in table.column_names else unknown
    if name == "labels":
        return _coded_lists(column)
    if kind == CODED and not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    return column if kind == CODED else column.cast(kind)


def _coded_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns lists of names as lists of their numbers, a tenth of the size; null as empty."""
    counts = [_numpy(chunk.value_lengths().fill_null(0)) for chunk in column.chunks]
    offsets = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int32)
    values = pa.chunked_array([chunk.flatten() for chunk in column.chunks], pa.string())
    codes, names = _coded(values.dictionary_encode())
    coded = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), names)
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), coded)])


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Returns the numbers and the names of a column that is dictionary-encoded."""
    chunks = column.unify_dictionaries().chunks
    codes = [_numpy(chunk.indices.fill_null(-1)) for chunk in chunks]
    names = chunks[0].dictionary if chunks else pa.array([], pa.string())
    return np.concatenate([np.zeros(0, np.int32), *codes]), names


def _is_text(name: str) -> bool:
    """Whether it is text that a file can hold: half a surrogate pair is not."""
    return name == name.encode("utf-8", "ignore").decode()


def _numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy()
    return column.to_numpy(zero_copy_only=False)
