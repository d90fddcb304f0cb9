"""What a ranking is held against: label sets, splits and places of images, by id.

From what is current of a run, from an export by itself, or from a table of anyone's:

    .csv .tsv    columns id and labels (several separated by ;), and if known split, place

A column `name` is taken for id, and one `label`, which is never cut, for labels.
"""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv
from jaxtyping import Bool, Int

from rejepa_jax.retrieval.collection.parts import find_exports
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.embeddings.parts import open_parts
from rejepa_jax.types import ConfigError, DataError

SEPARATOR = ";"
COLUMNS = ("id", "labels", "split", "place")
OTHER_NAMES = {"name": "id", "label": "labels"}


@dataclasses.dataclass(frozen=True)
class Truth:
    """Images in row order; an empty split or place is unknown."""

    source: str  # for messages
    ids: Sequence[str]
    classes: tuple[str, ...]
    labels: Bool[np.ndarray, "n l"]
    splits: Sequence[str]
    places: Sequence[str]
    is_changed: bool = False  # whether its rows are no longer those of the records

    def pick(self, rows: Int[np.ndarray, " m"]) -> "Truth":
        """Returns the truth of some images."""
        return dataclasses.replace(
            self,
            ids=[self.ids[row] for row in rows],
            labels=self.labels[rows],
            splits=[self.splits[row] for row in rows],
            places=[self.places[row] for row in rows],
        )

    @functools.cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def find(self, names: Sequence[str], are_rows: bool, source: str) -> Int[np.ndarray, " m"]:
        """Returns the rows of ids, or of row numbers as text.

        Raises:
            ConfigError: rows, of a run that was added to or deleted from.
            DataError: an image that is not here; `source` names it.
        """
        known = self._row_of
        if are_rows:
            if self.is_changed:
                raise ConfigError(
                    f"{source}: got rows of the records, expected ids, as {self.source} has been "
                    f"added to or deleted from; give {self.source}/embeddings as the labels, which "
                    "is as it was"
                )
            known = {str(row): row for row in range(len(self.ids))}
        rows = np.fromiter((known.get(name, -1) for name in names), np.int64, len(names))
        if (unknown := rows < 0).any():
            raise DataError(
                f"{source}: got {unknown.sum()} images that {self.source} does not have, first "
                f"{names[int(unknown.argmax())]!r}, expected its {'rows' if are_rows else 'ids'}; "
                "give the labels of the images that were ranked"
            )
        return rows

    def with_classes(self, classes: tuple[str, ...]) -> "Truth":
        """Returns the same label sets in other columns, which hold all of ours."""
        labels = np.zeros((len(self.labels), len(classes)), bool)
        labels[:, [classes.index(name) for name in self.classes]] = self.labels
        return dataclasses.replace(self, classes=classes, labels=labels)


def read_truth(path: pathlib.Path) -> Truth:
    """Reads the labels of what is current of a run, of an export, or of a table.

    Raises:
        FileNotFoundError: nothing is there.
        DataError: it is damaged, has no id or labels, or an id twice.
    """
    if path.is_dir():
        return _read_exports(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: got nothing there, expected labels; correct the path")
    return _read_table(path)


def _read_exports(source: pathlib.Path) -> Truth:
    found = find_exports(source)
    tables = []
    for path in found.paths:
        there = [name for name in COLUMNS if name in open_parts(path).schema.names]
        tables.append(reading.read_columns(path, there)[0].select(there))
    table = pa.concat_tables(tables, promote_options="default").filter(pa.array(found.live))
    return dataclasses.replace(from_export(table, str(source)), is_changed=found.is_changed)


def from_export(table: pa.Table, source: str) -> Truth:
    """Returns the truth of an export's columns."""
    columns = {name: table[name].to_pylist() for name in COLUMNS if name in table.column_names}
    return _truth(source, columns)


def _read_table(path: pathlib.Path) -> Truth:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    kinds = dict.fromkeys((*COLUMNS, *OTHER_NAMES), pa.string())
    try:
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
            convert_options=pyarrow.csv.ConvertOptions(column_types=kinds),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: got {error}, expected a table of labels; mend it") from error
    there = [name for name in table.column_names if name in kinds]
    columns = {OTHER_NAMES.get(name, name): table[name].to_pylist() for name in there}
    if not {"id", "labels"} <= columns.keys():
        raise DataError(
            f"{path}: got columns {table.column_names}, expected id, labels, and if known split, "
            "place; name the columns in the first line"
        )
    cut = None if "label" in there else SEPARATOR
    columns["labels"] = [_cut(text or "", cut) for text in columns["labels"]]
    return _truth(str(path), columns)


def _cut(text: str, separator: str | None) -> list[str]:
    names = text.split(separator) if separator else [text]
    return [name.strip() for name in names if name.strip()]


def _truth(source: str, columns: dict[str, list]) -> Truth:
    ids = columns["id"]
    if len(set(ids)) != len(ids):
        (name, count), *_ = collections.Counter(ids).most_common(1)
        raise DataError(f"{source}: got id {name!r} {count} times, expected it once; remove others")
    sets = [labels or () for labels in columns["labels"]]
    classes = tuple(sorted({name for labels in sets for name in labels}))
    column = {name: place for place, name in enumerate(classes)}
    matrix = np.zeros((len(ids), len(classes)), bool)
    for row, labels in enumerate(sets):
        matrix[row, [column[name] for name in labels]] = True
    splits, places = (
        [text or "" for text in columns.get(name, [""] * len(ids))] for name in ("split", "place")
    )
    return Truth(source, ids, classes, matrix, splits, places)
