"""Which image is in which split: by a rule, by one table, or by one list a split."""

import collections
import csv
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence

from rejepa_jax.types import DataError


def class_of(name: str) -> str:
    """Gives the name of the folder that a file lies in, "" if in none."""
    return pathlib.PurePosixPath(name).parent.name


def every_fifth(names: Iterable[str]) -> dict[str, str]:
    """Makes each fifth image of a class a `query`, in the natural order, all others `gallery`."""
    seen: collections.Counter[str] = collections.Counter()
    splits = {}
    for name in sorted(names, key=_natural_order):
        seen[class_of(name)] += 1
        splits[name] = "gallery" if seen[class_of(name)] % 5 else "query"
    return splits


def read_splits(path: pathlib.Path, names: Sequence[str]) -> dict[str, str]:
    """Reads a CSV with the columns `name`, `split` and, to be checked, `label`.

    Raises:
        DataError: If it does not list exactly these names, or a label is not the folder's name.
    """
    rows = list(read_rows(path, ("name", "split")))
    for number, row in enumerate(rows, start=2):
        if (label := row.get("label") or class_of(row["name"])) != class_of(row["name"]):
            got = f"the label {label!r} for {row['name']} in row {number}"
            raise bad_split(path, got, "the folder's name")
    listed = collections.Counter(row["name"] for row in rows)
    for what, wrong in {
        "more than once": [name for name, count in listed.items() if count > 1],
        "but not in the archive": sorted(listed.keys() - set(names)),
        "in the archive only": sorted(set(names) - listed.keys()),
    }.items():
        if wrong:
            raise bad_split(path, f"{some(wrong)} {what}", "each image of the archive once")
    return {row["name"]: row["split"] for row in rows}


def read_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Reads a CSV whose rows all have a value in these columns; raises a DataError otherwise."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                if not all(row.get(column) for column in columns):
                    expected = f"the columns {' and '.join(columns)}"
                    raise bad_split(path, f"row {number} without them", expected)
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad_split(path, repr(error), "a CSV; set --config.data.split_file=PATH") from error


def lists_beside(path: pathlib.Path, splits: Sequence[str]) -> dict[str, pathlib.Path]:
    """Finds each split's own file beside one of them, whose name has another split's in its place.

    Beside `eurosat-spatial-train.txt` that is `eurosat-spatial-val.txt`, and so on.

    Raises:
        DataError: If no split's name is in the file's, or the file is not there.
    """
    pattern = re.compile(rf"(?<![a-z])({'|'.join(sorted(splits, key=len)[::-1])})(?![a-z])")
    if not pattern.search(path.name) or not path.is_file():
        names = ", ".join(splits)
        raise bad_split(path, "no such file", f"one whose name says its split, of {names}")
    beside = {split: path.with_name(pattern.sub(split, path.name)) for split in splits}
    return {split: file for split, file in beside.items() if file.is_file()}


def bad_split(path: pathlib.Path | str, got: str, expected: str) -> DataError:
    """Makes the error that names a split file."""
    return DataError(f"split file {path}: got {got}, expected {expected}; correct the file")


def some(names: Sequence[str]) -> str:
    """Names the first few and says how many there are."""
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _natural_order(name: str) -> list[str | int]:
    """Orders numbers by value: `a_2` before `a_10`."""
    parts = re.split("([0-9]+)", name)  # text and digits take turns
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
