"""Files of rankings, from any system: which images answer which query, and how well.

    .csv .tsv    columns query, hit, and score or rank or both
    .parquet     the same columns
    .trec .run   TREC: query Q0 hit rank score tag; the rank is not looked at, as by trec_eval
    .npz         ours: queries [q], hits [q k], scores [q k], all of them rows of the records

The larger a score, the better; a distance has to be given as its negative.
"""

import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from rejepa_jax.retrieval.metrics.ranking import EXPECTED, TYPES, Ranking, from_table
from rejepa_jax.types import DataError

TREC = ("query", "q0", "hit", "rank", "score", "tag")


def read_ranking(path: pathlib.Path) -> Ranking:
    """Reads a file of hits in the format that its ending names.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: its ending is none of these, a column is missing, or a value cannot be right.
    """
    if path.suffix not in READERS:
        raise DataError(
            f"{path}: got the ending {path.suffix!r}, expected one of {', '.join(READERS)}; rename "
            "the file by its format"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: got no file, expected a ranking; correct the path")
    try:
        return READERS[path.suffix](path)
    except DataError:
        raise
    except (pa.ArrowException, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: got {error}, expected {EXPECTED}; mend the file") from error


def _read_separated(path: pathlib.Path, delimiter: str) -> Ranking:
    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(column_types=TYPES),
    )
    return from_table(str(path), table)


def _read_trec(path: pathlib.Path) -> Ranking:
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    wrong = next((number for number, line in enumerate(lines, 1) if len(line) != len(TREC)), None)
    if wrong is not None:
        raise DataError(
            f"{path}, line {wrong}: got {len(lines[wrong - 1])} words, expected {len(TREC)}: "
            "query Q0 hit rank score tag; mend the file"
        )
    columns = dict(zip(TREC, map(list, zip(*lines, strict=True)), strict=True)) if lines else {}
    table = pa.table({name: pa.array(columns.get(name, []), pa.string()) for name in TREC})
    return from_table(str(path), table.select(["query", "hit", "score"]))


def _read_parquet(path: pathlib.Path) -> Ranking:
    file = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
    return from_table(str(path), file.read([n for n in file.schema_arrow.names if n in TYPES]))


def _read_npz(path: pathlib.Path) -> Ranking:
    with np.load(path, allow_pickle=False) as file:
        if missing := {"queries", "hits", "scores"} - set(file.files):
            raise DataError(f"{path}: got no {sorted(missing)[0]}, expected queries, hits, scores")
        queries, hits, scores = (file[name] for name in ("queries", "hits", "scores"))
    if hits.shape != scores.shape or hits.shape[:1] != queries.shape:
        raise DataError(
            f"{path}: got {queries.shape} queries, {hits.shape} hits and {scores.shape} scores, "
            "expected [q], [q k] and [q k]; evaluate again"
        )
    is_hit = hits >= 0
    columns = {
        "query": pa.array(np.repeat(queries, is_hit.sum(axis=1))).cast(pa.string()),
        "hit": pa.array(hits[is_hit]).cast(pa.string()),
        "score": pa.array(scores[is_hit].astype(np.float64)),
    }
    return from_table(str(path), pa.table(columns), are_rows=True)


READERS: dict[str, Callable[[pathlib.Path], Ranking]] = {
    ".csv": lambda path: _read_separated(path, ","),
    ".tsv": lambda path: _read_separated(path, "\t"),
    ".parquet": _read_parquet,
    ".trec": _read_trec,
    ".run": _read_trec,
    ".npz": _read_npz,
}
