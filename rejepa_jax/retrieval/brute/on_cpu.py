"""Exact search on the CPU: scores by blocks, of which only what may enter the answer is ranked.

What a query has found so far sets a threshold, and few scores of a later block pass it: about k
while the rows seen double. So ranking costs next to nothing beside the products.
"""

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Shaped, UInt64

from rejepa_jax.retrieval.brute.keys import WORST, merge, pack, unpack
from rejepa_jax.retrieval.brute.products import likeness, refuse_infinite

PART_BYTES = 1 << 28  # of the gallery: all queries visit a part before the next one is read
MOST_SCORES = 1 << 22  # of a block: as many as caches hold
MOST_ROWS = 1 << 14  # of a block
MOST_NUMBERS = 1 << 20  # of a block that is turned to float32 first
GROUP = 32  # rows that are held to the threshold by the best of them
GATHERED = 0.5  # share of rows, below which those allowed are copied together
# Queries for which numpy multiplies, so that nothing needs to be compiled. From eight on, OpenBLAS
# gives the same vector scores that depend on where it stands.
FEW = 8


def find(
    blocks: Sequence[Shaped[np.ndarray, "_ d"]],
    gallery: Shaped[np.ndarray | Array, "r d"],
    k: int,
    allowed: Bool[np.ndarray, " r"] | None,
    scale: Float[np.ndarray | Array, " r"] | None,
    most_rows: int = MOST_ROWS,
) -> Iterator[tuple[Float32[np.ndarray, "_ k"], Int32[np.ndarray, "_ k"]]]:
    """Finds the best k rows of each block of queries; only rows that are allowed are compared.

    Raises:
      DataError: a score is not finite.
    """
    gallery, ids = np.asarray(gallery), None
    if allowed is not None and np.count_nonzero(allowed) < GATHERED * len(gallery):
        ids, allowed = np.flatnonzero(allowed).astype(np.int32), None
    searches = [Search(block, k, most_rows) for block in blocks]
    count, size = len(gallery if ids is None else ids), max(1, PART_BYTES // gallery[:1].nbytes)
    for start in range(0, count, size):
        rows = slice(start, start + size) if ids is None else ids[start : start + size]
        part = gallery[rows], cut(scale, rows), cut(allowed, rows)
        for search in searches:
            search.visit(start, *part)
    for search in searches:
        scores, rows = search.answer()
        yield scores, rows if ids is None else np.append(ids, np.int32(-1))[rows]


def cut(
    leaf: Shaped[np.ndarray | Array, " r"] | None, rows: slice | Int[np.ndarray, " _"]
) -> Shaped[np.ndarray, " _"] | None:
    """Takes rows of what there may be none of."""
    return None if leaf is None else np.asarray(leaf)[rows]


class Search:
    """The best k rows so far of some queries."""

    def __init__(self, queries: Shaped[np.ndarray, "q d"], k: int, most_rows: int = MOST_ROWS):
        """Starts with no rows; a block has a power of two of them, up to `most_rows`."""
        self._queries, self._k = queries, k
        self._most = min(most_rows, MOST_ROWS, max(MOST_SCORES // max(len(queries), 1), 1024))
        self._best = np.full((len(queries), k), WORST, np.uint64)
        self._threshold: Float32[np.ndarray, " q"] | None = None
        self._waiting: list[tuple[Int[np.ndarray, " c"], UInt64[np.ndarray, " c"]]] = []
        self._due = 0  # when as many rows are seen, what waits is ranked

    def visit(
        self,
        offset: int,
        vectors: Shaped[np.ndarray, "r d"],
        scale: Float[np.ndarray, " r"] | None = None,
        allowed: Bool[np.ndarray, " r"] | None = None,
    ) -> None:
        """Takes in rows that follow those before; the first has the number `offset`.

        Raises:
          DataError: a score is not finite.
        """
        most = min(self._most, len(vectors))
        if is_multiplied_by_numpy(self._queries, vectors) and vectors.dtype != np.float32:
            most = min(most, max(1, MOST_NUMBERS // vectors.shape[1]))
        block = 1 << (most.bit_length() - 1)
        for first in range(0, len(vectors), block):
            start = min(first, len(vectors) - block)  # every block is full: one compilation
            window = slice(start, start + block)
            mask = cut(allowed, window)
            scores, maxima = score(self._queries, vectors[window], cut(scale, window))
            if self._threshold is None:
                self._threshold = lower_bound(scores, maxima, self._k, mask)
            query, column, value = passing(scores, maxima, self._threshold)
            is_new = (column >= first - start) & (True if mask is None else mask[column])
            keys = pack(value[is_new], column[is_new] + (offset + start))
            self._waiting.append((query[is_new], keys))
            seen = offset + start + block
            if (
                seen >= self._due
                or sum(len(keys) for _, keys in self._waiting) > 4 * self._best.size
            ):
                self._rank()
                self._due = 2 * seen

    def answer(self) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Returns scores and rows, best first; nan and -1 where there were fewer than k rows."""
        self._rank()
        return unpack(self._best)

    def _rank(self) -> None:
        """Merges what waits into the best, and raises the thresholds."""
        if self._waiting:
            query, keys = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
            self._best, self._waiting = merge(self._best, query, keys), []
            worst = unpack(self._best[:, -1])[0]
            self._threshold = np.where(np.isnan(worst), np.float32(-np.inf), worst)


def is_multiplied_by_numpy(queries: np.ndarray, vectors: np.ndarray) -> bool:
    """Whether the product is numpy's; bits have none."""
    return len(queries) < FEW and vectors.dtype != np.uint32


def score(
    queries: Shaped[np.ndarray, "q d"],
    vectors: Shaped[np.ndarray, "r d"],
    scale: Float[np.ndarray, " r"] | None,
) -> tuple[Float32[np.ndarray, "q r"], Float32[np.ndarray, "q g"]]:
    """Returns all scores, and the best of each group of neighbouring rows."""
    count = len(queries)
    if is_multiplied_by_numpy(queries, vectors):
        with np.errstate(invalid="ignore"):  # what is not finite is refused below
            scores = queries @ vectors.astype(np.float32, copy=False).T
        scores = scores if scale is None else scores * scale
        scores += np.float32(0)  # -0.0 would rank below 0.0
        maxima = scores
    else:
        padded = np.pad(queries, ((0, (1 << (count - 1).bit_length()) - count), (0, 0)))
        # The compiled product reads numpy's own memory, that of mapped files too.
        leaves = (
            None if a is None else jax.device_put(a, may_alias=True) for a in (vectors, scale)
        )
        scores, maxima = (np.asarray(leaf)[:count] for leaf in _score(padded, *leaves))
    refuse_infinite((maxima < np.inf).all())
    return scores, maxima


@jax.jit
def _score(
    queries: Shaped[Array | np.ndarray, "q d"],
    vectors: Shaped[Array, "r d"],
    scale: Float[Array, " r"] | None,
) -> tuple[Float[Array, "q r"], Float[Array, "q g"]]:
    scores = likeness(queries, vectors, scale)
    return scores, scores.reshape(len(queries), -1, min(GROUP, len(vectors))).max(axis=2)


def lower_bound(
    scores: Float32[np.ndarray, "q r"],
    maxima: Float32[np.ndarray, "q g"],
    k: int,
    allowed: Bool[np.ndarray, " r"] | None = None,
) -> Float32[np.ndarray, " q"]:
    """Returns a number below the k-th best of each query: k groups hold k rows as good as it."""
    values = maxima if allowed is None and maxima.shape[1] >= k else scores
    values = values if allowed is None else values[:, allowed]
    count = values.shape[1]
    if count < k:
        return np.full(len(values), -np.inf, np.float32)
    bound = np.partition(values, count - k, axis=1)[:, count - k]
    return np.nextafter(bound, np.float32(-np.inf))


def passing(
    scores: Float32[np.ndarray, "q r"],
    maxima: Float32[np.ndarray, "q g"],
    threshold: Float32[np.ndarray, " q"],
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"], Float32[np.ndarray, " c"]]:
    """Finds the scores above their query's threshold: query, column and value of each."""
    query, group = np.nonzero(maxima > threshold[:, None])
    size = scores.shape[1] // maxima.shape[1]
    if size == 1:
        return query, group, scores[query, group]
    members = scores.reshape(*maxima.shape, size)[query, group]
    place, member = np.nonzero(members > threshold[query, None])
    return query[place], group[place] * size + member, members[place, member]
