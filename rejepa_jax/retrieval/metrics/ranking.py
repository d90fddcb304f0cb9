"""Any system's answers: ids and scores, one hit an entry, brought into one order."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from rejepa_jax.types import ConfigError, DataError

TYPES = {"query": pa.string(), "hit": pa.string(), "score": pa.float64(), "rank": pa.int64()}
EXPECTED = "columns query, hit, and score or rank"


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Hits in any order, one an entry; queries and hits are ids, or row numbers as text."""

    source: str  # for messages
    queries: list[str]  # each once, in the order of the file
    query: Int[np.ndarray, " n"]  # of which query each hit is
    hits: list[str]
    score: Float[np.ndarray, " n"] | None
    rank: Int[np.ndarray, " n"] | None
    are_rows: bool = False

    def order(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, "q m"]:
        """Returns the hits' given rows by query, best first, -1 after the last of a query.

        Hits are ordered by score; equal scores by rank, where there are ranks, then by row.

        Raises:
            DataError: a query has the same hit twice.
        """
        keys = [rows] + [key for key in (self.rank,) if key is not None]
        keys += [-key for key in (self.score,) if key is not None]
        order = np.lexsort((*keys, self.query))
        self._refuse_twice(rows)
        counts = np.bincount(self.query, minlength=len(self.queries))
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        matrix = np.full((len(self.queries), counts.max(initial=0)), -1, np.int64)
        matrix[self.query[order], nth] = rows[order]
        return matrix

    def _refuse_twice(self, rows: Int[np.ndarray, " n"]) -> None:
        order = np.lexsort((rows, self.query))
        query, row = self.query[order], rows[order]
        again = (query[1:] == query[:-1]) & (row[1:] == row[:-1])
        if again.any():
            entry = order[int(again.argmax())]
            raise DataError(
                f"{self.source}: got hit {self.hits[entry]!r} twice for query "
                f"{self.queries[self.query[entry]]!r}, expected it once; remove the repetition"
            )


def make_ranking(
    queries: Sequence[str],
    hits: Sequence[str],
    scores: Sequence[float | int] | np.ndarray | None = None,
    ranks: Sequence[int] | np.ndarray | None = None,
    source: str = "ranking",
) -> Ranking:
    """Makes a ranking of lists with an entry for each hit.

    Raises:
        ConfigError: the lists are not equally long.
        DataError: a value cannot be right.
    """
    given = (queries, hits, scores, ranks)
    if len(lengths := {len(values) for values in given if values is not None}) > 1:
        raise ConfigError(
            f"{source}: got lists of {sorted(lengths)} entries, expected one for each hit in all"
        )
    columns = {"query": pa.array(queries, pa.string()), "hit": pa.array(hits, pa.string())}
    if scores is not None:
        columns["score"] = pa.array(scores, pa.float64())
    if ranks is not None:
        columns["rank"] = pa.array(ranks, pa.int64())
    return from_table(source, pa.table(columns))


def from_table(source: str, table: pa.Table, are_rows: bool = False) -> Ranking:
    """Makes a ranking of a table's columns query, hit, score and rank.

    Raises:
        DataError: a column is missing, or a value cannot be right; `source` is named.
    """
    names = set(table.column_names)
    if not {"query", "hit"} <= names or not names & {"score", "rank"}:
        raise DataError(f"{source}: got columns {table.column_names}, expected {EXPECTED}")
    if not len(table):
        raise DataError(f"{source}: got no hit, expected some; rank the queries first")
    columns = {
        name: table[name].cast(kind).combine_chunks()
        for name, kind in TYPES.items()
        if name in names
    }
    for name, column in columns.items():
        is_there = np.asarray(column.is_valid())
        if name == "score":
            is_there &= np.isfinite(column.to_numpy(zero_copy_only=False))
        if not is_there.all():
            raise DataError(
                f"{source}: got no {name} in line {is_there.argmin() + 1} of the hits, expected "
                "one in each (a finite number, if a score); fill it, or leave the hit out"
            )
    coded = columns["query"].dictionary_encode()
    score, rank = (columns[n].to_numpy() if n in columns else None for n in ("score", "rank"))
    query = coded.indices.to_numpy().astype(np.int64)
    hits = columns["hit"].to_pylist()
    ranking = Ranking(source, coded.dictionary.to_pylist(), query, hits, score, rank, are_rows)
    _check_ranks(ranking)
    return ranking


def _check_ranks(ranking: Ranking) -> None:
    """Refuses scores that grow with the rank: they are distances, or belong to other hits."""
    if ranking.rank is None:
        return
    order = np.lexsort((ranking.rank, ranking.query))
    same = ranking.query[order][1:] == ranking.query[order][:-1]
    if ranking.score is None:
        wrong = same & (np.diff(ranking.rank[order]) == 0)
        got, do = "a rank twice", "give every hit of a query its own rank, or scores"
    else:
        wrong = same & (np.diff(ranking.score[order]) > 0) & (np.diff(ranking.rank[order]) > 0)
        got, do = "a score that grows with the rank", "give distances as their negatives"
    if wrong.any():
        entry = order[int(wrong.argmax()) + 1]
        raise DataError(
            f"{ranking.source}: got {got}, at query {ranking.queries[ranking.query[entry]]!r}, hit "
            f"{ranking.hits[entry]!r}, expected the best hit first; {do}"
        )
