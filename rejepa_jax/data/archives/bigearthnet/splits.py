"""Lists that deal BigEarthNet's patches into splits, in the forms in which they circulate.

    train.csv, val.csv or validation.csv, test.csv   a Sentinel-2 patch a line, maybe its partner of
                                                     Sentinel-1; also bigearthnet-train.csv and
                                                     train_pairs.csv, with or without a header
    s1_s2_name_country_season.csv                    partners and countries of all of version 1
    any.csv                                          or one table with a header and the column
                                                     `split` or `official_split`

They lie in a folder, a .tar or a .zip, each of them maybe packed as .csv.bz2: the wheel of the
package bigearthnet-common is such a .zip and holds the official splits of version 1.
"""

import bz2
import collections
import csv
import hashlib
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from absl import logging

from rejepa_jax.data.archives.bigearthnet.names import S1_NAME, S2_NAME, is_ben14k
from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.types import DataError

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
HOW_TO_GET = (
    "the official ones of version 1 are in the file that `pip download bigearthnet-common==2.8.0 "
    "--no-deps` leaves: --config.data.split_file=FILE"
)
# CSMAE's BEN-14K: the sha256 of each list, its names sorted and each followed by a line feed.
PUBLISHED = {
    "train": "3b997f01dd8ed89aa4fbad61f500b82a5f12a25e2a671da26b2e38d4bf1128ab",
    "validation": "909afff5898ee7f35137a2728c8cfa4ba5f17f56e57d62177039a037e1d3c36b",
    "test": "76bb5e32449493be79c90f57ee3cc2dac128a377ddae4929953d4120840381c7",
}
_LIST = re.compile(r"(?:bigearthnet-)?(train|val|validation|test)(?:_pairs)?\.csv(?:\.bz2)?")
_TABLE = re.compile(r"s1_s2_name_country_season\.csv(?:\.bz2)?")


class Listed(NamedTuple):
    """What a list says of one patch."""

    s2: str  # its name in version 1, or in version 2
    s1: str  # that of its partner; "" = not said
    split: str
    country: str = ""


def read_lists(path: str | os.PathLike[str], selection: str = "clean") -> list[Listed]:
    """Reads the lists, and says in the log what they are.

    Args:
        path: One table, one list beside which the others lie, or a folder, a .tar or a .zip with
            them, whatever its name. A folder is not searched deeper.
        selection: `ben14k` takes of the lists what `is_ben14k`, where a table says the countries,
            and refuses lists of other months where none does. Anything else takes them whole.

    Raises:
        DataError: There are no lists, they contradict each other, name a patch twice, or hold what
            is no name of a patch.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise _bad(path, "nothing", f"lists of patches; {HOW_TO_GET}")
    if _LIST.fullmatch(path.name) and path.is_file():
        path = path.parent
    if path.name.endswith((".csv", ".csv.bz2")) and path.is_file():
        data = ArchiveFiles(path.parent).read(path.name)
        return choose(parse(data, path.name), str(path), selection)
    return choose(_read_all(path), str(path), selection)


def choose(listed: list[Listed], name: str, selection: str) -> list[Listed]:
    """Takes of a table, or of all lists, what `read_lists` says; raises as it does."""
    if twice := len(listed) - len({patch.s2 for patch in listed}):
        got = f"{twice} of {len(listed)} patches a second time"
        raise _bad(name, got, "each once; correct the lists")
    if selection == "ben14k":
        listed = _only_ben14k(listed, name)
    counts = collections.Counter(patch.split for patch in listed)
    is_published = _digests(listed) == PUBLISHED
    what = f"{'' if is_published else 'not '}the published BEN-14K"
    logging.info("split lists %s: %s, %s", name, dict(sorted(counts.items())), what)
    return listed


def parse(data: bytes, name: str, split: str = "") -> list[Listed]:
    """Reads one list, all of one split, or a table that names the splits itself.

    Raises:
        DataError: it cannot be read, or a row has no Sentinel-2 patch or no split.
    """
    rows = _rows(data, name)
    titles, first = [], next(rows, [])
    if not any(map(S2_NAME.fullmatch, first)):
        titles, first = first, next(rows, [])
    s2_at, s1_at = _column(first, S2_NAME.fullmatch), _column(first, S1_NAME.fullmatch)
    split_at = _column(titles, {"split", "official_split"}.__contains__)
    country_at = _column(titles, "country".__eq__)
    listed = []
    for row in itertools.chain([first], rows):
        cells = [*row, ""]  # the last one is that of a column that is not there
        s2, s1, given = cells[s2_at], cells[s1_at], split or cells[split_at]
        named = S2_NAME.fullmatch(s2) and (not s1 or S1_NAME.fullmatch(s1))
        if len(row) != len(first) or not named or given not in SPLITS:
            expected = f"names of patches, and a split: {', '.join(SPLITS)}; correct it"
            got = f"the row {','.join(row)!r}" if row else "no Sentinel-2 patch"
            raise _bad(name, got, expected)
        listed.append(Listed(s2, s1, SPLITS[given], cells[country_at]))
    return listed


def _rows(data: bytes, name: str) -> Iterator[list[str]]:
    try:
        text = (bz2.decompress(data) if name.endswith(".bz2") else data).decode("utf-8-sig")
        yield from filter(None, csv.reader(text.splitlines(), skipinitialspace=True))
    except (OSError, ValueError, csv.Error) as error:
        raise _bad(name, repr(error), "a CSV, or one packed with bzip2; restore it") from error


def _column(cells: list[str], is_it: Callable[[str], Any]) -> int:
    """Finds the first cell that is it; -1 = none."""
    return next((column for column, cell in enumerate(cells) if is_it(cell)), -1)


def _read_all(path: pathlib.Path) -> list[Listed]:
    """Reads every list in a folder or archive, and fills them up from the table."""
    files, by_split, table = ArchiveFiles(path), collections.defaultdict(list), {}
    for name in [file.name for file in path.iterdir()] if path.is_dir() else files.names():
        base = name.rsplit("/", 1)[-1]
        if found := _LIST.fullmatch(base):
            by_split[SPLITS[found[1]]].append(parse(files.read(name), name, found[1]))
        elif _TABLE.fullmatch(base):
            table = {patch.s2: patch for patch in parse(files.read(name), name, "train")}
    if not by_split:
        raise _bad(path, "no list", f"train.csv, val.csv and test.csv; {HOW_TO_GET}")
    for split, lists in by_split.items():  # such as train.csv and train_pairs.csv
        if any({p.s2 for p in one} != {p.s2 for p in lists[0]} for one in lists):
            raise _bad(path, f"{len(lists)} lists of {split} that differ", "one, or equal ones")
    listed = [p for lists in by_split.values() for p in max(lists, key=lambda one: one[0].s1)]
    return [
        Listed(p.s2, p.s1 or table[p.s2].s1, p.split, table[p.s2].country) if p.s2 in table else p
        for p in listed
    ]


def _only_ben14k(listed: list[Listed], name: str) -> list[Listed]:
    if any(patch.country for patch in listed):
        return [patch for patch in listed if is_ben14k(patch.s2, patch.country)]
    other = [patch.s2 for patch in listed if not is_ben14k(patch.s2, "Serbia")]
    if other:
        got = f"{len(other)} of {len(listed)} patches not of June to August, such as {other[0]}"
        expected = f"CSMAE's lists of BEN-14K, or a table of countries; {HOW_TO_GET}"
        raise _bad(name, got, expected)
    return listed


def _digests(listed: Iterable[Listed]) -> dict[str, str]:
    names = collections.defaultdict(list)
    for patch in listed:
        names[patch.split].append(f"{patch.s2}\n")
    return {
        split: hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
        for split, lines in names.items()
    }


def _bad(path: str | os.PathLike[str], got: str, expected: str) -> DataError:
    return DataError(f"split lists {path}: got {got}, expected {expected}")
