"""Which images may not answer which query: the query itself, in another sensor, or its place.

An archive that holds several dates of one place, or one image in two sensors, lets a query find
its own ground; that is finding duplicates, not retrieval.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from rejepa_jax.retrieval.metrics.blocks import PAIRS

NONE = -1  # of no group


class Excluded(NamedTuple):
    """Groups of images in numbers, -1 for none; none of a query's groups answers it."""

    query_groups: Int[np.ndarray, "q g"]
    gallery_groups: Int[np.ndarray, "r g"]

    def pick(self, queries: slice | np.ndarray) -> "Excluded":
        """Returns what is excluded for some of the queries."""
        return Excluded(self.query_groups[queries], self.gallery_groups)

    def covers(self, ranking: Int[np.ndarray, "q n"]) -> Bool[np.ndarray, "q n"]:
        """Whether each hit is excluded."""
        found = np.zeros(ranking.shape, bool)
        for ours, theirs in zip(self.query_groups.T, self.gallery_groups.T, strict=True):
            found |= (ours[:, None] == theirs[ranking]) & (ours[:, None] != NONE)
        return found & (ranking >= 0)

    def counts(self) -> Int[np.ndarray, " q"]:
        """Returns how many images are excluded for each query, one in two groups counted twice."""
        counts = np.zeros(len(self.query_groups), np.int64)
        for ours, theirs in zip(self.query_groups.T, self.gallery_groups.T, strict=True):
            size = np.bincount(theirs[theirs != NONE], minlength=max(ours.max(initial=0) + 1, 1))
            counts += np.where(ours == NONE, 0, size[ours])
        return counts

    def pairs(self) -> Iterator[tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]]:
        """Yields every excluded (query, gallery row) once, some million of them at a time."""
        rows, ends = len(self.gallery_groups), np.cumsum(self.counts())
        start = 0
        while start < len(ends):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS, "right")))
            found = [
                _matches(ours[start:stop], theirs) + start * rows
                for ours, theirs in zip(self.query_groups.T, self.gallery_groups.T, strict=True)
            ]
            pairs = functools.reduce(np.union1d, found)
            yield pairs // rows, pairs % rows
            start = stop

    def drop(self, ranking: Int[np.ndarray, "q n"], k: int) -> Int[np.ndarray, "q k"]:
        """Returns the first k hits that are not excluded, -1 after the last of them."""
        gone = self.covers(ranking)
        order = np.argsort(gone, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(ranking, order, axis=1)
        return np.where(np.take_along_axis(gone, order, axis=1), NONE, kept)


def same(*names: tuple[Sequence[str], Sequence[str]]) -> Excluded:
    """Excludes what has the query's name: of queries and gallery, ids, places or both.

    An empty name is unknown, and the same as no other.
    """
    numbered = [_number(*pair) for pair in names]
    return Excluded(*(np.stack(side, axis=1) for side in zip(*numbered, strict=True)))


def _number(
    queries: Sequence[str], gallery: Sequence[str]
) -> tuple[Int[np.ndarray, " q"], Int[np.ndarray, " r"]]:
    numbers: dict[str, int] = {}

    def number(names: Sequence[str]) -> np.ndarray:
        found = (numbers.setdefault(name, len(numbers)) if name else NONE for name in names)
        return np.fromiter(found, np.int64, len(names))

    return number(queries), number(gallery)


def _matches(ours: Int[np.ndarray, " q"], theirs: Int[np.ndarray, " r"]) -> Int[np.ndarray, " p"]:
    """Returns query * r + row of every pair of one group."""
    order = np.argsort(theirs, kind="stable")
    left, right = (np.searchsorted(theirs[order], ours, side) for side in ("left", "right"))
    counts = np.where(ours == NONE, 0, right - left)
    queries = np.repeat(np.arange(len(ours)), counts)
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return queries * len(theirs) + order[np.repeat(left, counts) + nth]
