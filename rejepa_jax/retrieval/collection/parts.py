"""The exports that hold what is current, and their rows as parts to be written again."""

import dataclasses
import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from rejepa_jax import artifacts
from rejepa_jax.retrieval.collection import opening, versions
from rejepa_jax.retrieval.embeddings import reading, thumbnails
from rejepa_jax.retrieval.embeddings.parts import open_parts
from rejepa_jax.retrieval.embeddings.schema import FRACTIONS, EmbeddingPart, part_name
from rejepa_jax.retrieval.embeddings.writing import write_part
from rejepa_jax.types import DataError

PART_ROWS = 65536
NAMES = {"ids": "id", "vectors": "embedding"}  # of columns whose field is called otherwise
MADE_ANEW = ("first_row", "thumbnail_uri")
SOURCE = "export"  # a column while rows are under way: which export they are from


@dataclasses.dataclass(frozen=True)
class Exports:
    """One export, or the base of a run and what was added to it since; of one encoder."""

    paths: tuple[Path, ...]
    live: Bool[np.ndarray, " r"]  # of all rows, those that were not deleted
    footer: dict[str, Any]  # of the first
    is_changed: bool = False  # whether a run holds another set of images than its stages made

    def read_ids(self) -> pa.ChunkedArray:
        """Reads the ids of the live rows, in their order."""
        opened = [open_parts(path) for path in self.paths]
        batches = (batch for parts in opened for batch in parts.batches(["id", "row"], PART_ROWS))
        ids = pa.chunked_array([batch["id"] for batch in batches], pa.string())
        return ids.filter(pa.array(self.live))


def find_exports(source: Path) -> Exports:
    """Finds the exports that hold what is current of a run, or an export by itself.

    Raises:
      FileNotFoundError: there is no part, or the stage that makes them has not finished.
      DataError: parts or versions are damaged, or do not belong together.
    """
    if not (source / opening.EMBEDDINGS).is_dir():
        footer = open_parts(source).footer
        return Exports((source,), np.ones(footer["rows"], bool), footer)
    version = versions.read_version(source)
    for number in version.needed:
        made = versions.step_of(source, number) if number else source / opening.EMBEDDINGS
        artifacts.load(made)
    paths = (version.base_of(source) / opening.EMBEDDINGS, *opening.steps(source, version))
    footers = [open_parts(path).footer for path in paths]
    for path, footer in zip(paths, footers, strict=True):
        opening.check_fingerprint(path, footer["fingerprint"], footers[0]["fingerprint"])
    live = opening.read_live(source, version, sum(footer["rows"] for footer in footers))
    return Exports(paths, live, footers[0], version.version > 0)


def refuse_repeated(source: Path | str, ids: pa.Array | pa.ChunkedArray) -> None:
    """Refuses an id that is there twice; a DataError."""
    counts = ids.value_counts()
    times = counts.field("counts").to_numpy()
    if (times > 1).any():
        twice = counts.field("values")[int(times.argmax())]
        raise DataError(
            f"{source}: got id {twice.as_py()!r} twice, expected unique ids; rename the image"
        )


class Rows(NamedTuple):
    """A part, and what gives the picture of each of its rows, counted from 0."""

    part: EmbeddingPart
    picture: Callable[[int], bytes | None]


class _Pictures:
    """The pictures of several exports, open for as long as a part may ask for one."""

    def __init__(self, exports: Sequence[Path]):
        self._opened = [thumbnails.Thumbnails(directory) for directory in exports]

    def read(self, export: int, row: int) -> bytes | None:
        """Returns the picture of a row of one of the exports."""
        return self._opened[export].read(row)

    def __del__(self) -> None:
        for each in self._opened:
            each.close()


def read_parts(
    exports: Sequence[Path], keep: Bool[np.ndarray, " r"] | None = None, size: int = PART_ROWS
) -> Iterator[Rows]:
    """Yields the rows to keep of several exports, `size` a part; None keeps all.

    Raises:
      FileNotFoundError, DataError: as `reading.iterate` does.
    """
    waiting: list[pa.RecordBatch] = []
    pictures = _Pictures(exports)
    for batch in _kept(exports, keep):
        waiting.append(batch)
        while sum(map(len, waiting)) >= size:
            table = _joined(waiting)
            yield _rows(table.slice(0, size), pictures)
            waiting = table.slice(size).combine_chunks().to_batches()
    if any(map(len, waiting)):
        yield _rows(_joined(waiting), pictures)


def write_parts(
    directory: Path,
    parts: Iterable[Rows],
    count: int,
    footer: dict[str, Any],
    dtype: str = "float32",
) -> None:
    """Writes an export of `count` parts into a new directory, its rows numbered through."""
    directory.mkdir()
    first = 0
    for number, (part, picture) in enumerate(parts):
        path = directory / thumbnails.zip_name(number, count)
        uris = _write_pictures(path, picture, range(first, first + len(part.ids)))
        numbered = dataclasses.replace(part, first_row=first, thumbnail_uri=uris)
        write_part(directory / part_name(number, count), numbered, footer, dtype)
        first += len(part.ids)


def _write_pictures(path: Path, picture: Callable[[int], bytes | None], rows: range) -> list[str]:
    uris = [""] * len(rows)
    with thumbnails.writing(path) as write:
        for place, row in enumerate(rows):
            if found := picture(place):
                uris[place] = write(row, found)
    if not any(uris):
        path.unlink()
    return uris


def _kept(exports: Sequence[Path], keep: Bool[np.ndarray, " r"] | None) -> Iterator[pa.RecordBatch]:
    first = 0
    for number, directory in enumerate(exports):
        for batch in reading.iterate(directory):
            marked = batch.append_column(SOURCE, pa.array(np.full(len(batch), number)))
            mask = None if keep is None else pa.array(keep[first : first + len(batch)])
            first += len(batch)
            yield marked if mask is None else marked.filter(mask)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    return pa.concat_tables(tables, promote_options="default")


def _rows(table: pa.Table, pictures: _Pictures) -> Rows:
    columns = {}
    for field in dataclasses.fields(EmbeddingPart):
        name = NAMES.get(field.name, field.name)
        if name in table.column_names and name not in MADE_ANEW:
            columns[field.name] = _values(name, table[name])
    sources, rows = table[SOURCE].to_numpy(), table["row"].to_numpy()
    return Rows(
        EmbeddingPart(first_row=0, **columns),
        lambda place: pictures.read(int(sources[place]), int(rows[place])),
    )


def _values(name: str, column: pa.ChunkedArray) -> Any:
    """Returns a column as `EmbeddingPart` has it."""
    if name == "embedding":
        numbers = [chunk.flatten().to_numpy() for chunk in column.chunks]
        return np.concatenate(numbers).reshape(len(column), -1)
    if name in FRACTIONS:
        return column.to_numpy()
    unknown: Any = ""
    if pa.types.is_list(column.type):
        unknown = ()
    elif pa.types.is_binary(column.type):
        unknown = b""
    return [unknown if value is None else _plain(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.datetime) else value
