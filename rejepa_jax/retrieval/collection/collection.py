"""An opened version of a run: the base's index, and what was added since, searched as one."""

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.embeddings.thumbnails import Thumbnails
from rejepa_jax.retrieval.exact import check_vectors
from rejepa_jax.retrieval.index.interface import Index
from rejepa_jax.types import ConfigError, DataError

QUERIES_AT_ONCE = 256
Found = tuple[Float[np.ndarray, "q _"], Int[np.ndarray, "q _"]]


@dataclasses.dataclass(frozen=True)
class Collection:
    """What is searched; it stays as it was opened, whatever happens to the files since."""

    name: str
    version: str
    fingerprint: str  # of what made the vectors
    catalogue: Catalogue
    index: Index  # of the first rows
    added: Float[np.ndarray, "a d"]  # of the others
    thumbnails: tuple[tuple[int, Thumbnails], ...]  # of each export, and its first row

    @property
    def rows(self) -> int:
        """How many images are searched: all that were not deleted."""
        return int(self.catalogue.live.sum())

    @property
    def index_info(self) -> dict[str, Any]:
        """What the base's index says of itself: kind, recipe, recall."""
        return self.index.info

    def search(
        self,
        vectors: Float[np.ndarray, "q d"],
        k: int,
        allowed: Bool[np.ndarray, " r"] | None = None,
    ) -> Found:
        """Finds the k best rows of each query: (cosine, row), best first, equal scores by row.

        Of fewer than k rows that are allowed, the rest is row -1 with the score NaN. What was
        added since the base is searched exactly.

        Raises:
          ConfigError: k is not in 1 to `rows`, or the queries are of another encoder.
          DataError: a query is not a finite vector of length 1, or all images were deleted.
        """
        self._check(vectors, k)
        may = self.catalogue.live if allowed is None else self.catalogue.live & allowed
        split = self.index.rows
        parts = []
        if may[:split].any():
            mask = None if may[:split].all() else may[:split]
            parts.append(self.index.search(vectors, min(k, split), mask))
        if may[split:].any():
            scores, rows = nearest(vectors, self.added, k, may[split:])
            parts.append((scores, np.where(rows < 0, -1, rows + split)))
        if len(parts) == 2:  # equal vectors get equal scores, whoever found them
            parts = [(self._scores(vectors, rows), rows) for _, rows in parts]
        return _merge(parts, len(vectors), k)

    def _scores(
        self, queries: Float[np.ndarray, "q d"], rows: Int[np.ndarray, "q k"]
    ) -> Float[np.ndarray, "q k"]:
        scores = np.full(rows.shape, np.nan, np.float32)
        for place, (query, found) in enumerate(zip(queries, rows, strict=True)):
            known = found >= 0
            scores[place, known] = cosines(query, self.vectors(found[known]))
        return scores

    def _check(self, vectors: Float[np.ndarray, "q d"], k: int) -> None:
        if not self.rows:
            raise DataError(f"{self.name}: all images were deleted; add some, or search another")
        if not 0 < k <= self.rows:
            raise ConfigError(
                f"got k = {k}, expected 1 to {self.rows} (the images searched); change k"
            )
        if vectors.shape[1] != self.index.dim:
            raise ConfigError(
                f"got queries with {vectors.shape[1]} dimensions, expected {self.index.dim}: query "
                "and index come from different encoders; embed the query with this run's encoder"
            )
        check_vectors(vectors, "queries")

    def vectors(self, rows: Sequence[int] | np.ndarray) -> Float[np.ndarray, "n d"]:
        """Returns the stored vectors of some rows."""
        rows, split = np.asarray(rows, np.int64), self.index.rows
        vectors = np.empty((len(rows), self.index.dim), np.float32)
        is_added = rows >= split
        vectors[~is_added] = self.index.vectors(rows[~is_added])
        vectors[is_added] = self.added[rows[is_added] - split]
        return vectors

    def thumbnail(self, row: int | np.integer) -> bytes | None:
        """Returns a small picture of a row's image as WebP; None where there is none."""
        firsts = [first for first, _ in self.thumbnails]
        first, pictures = self.thumbnails[bisect.bisect_right(firsts, row) - 1]
        return pictures.read(int(row) - first)


def nearest(
    queries: Float[np.ndarray, "q d"],
    gallery: Float[np.ndarray, "r d"],
    k: int,
    allowed: Bool[np.ndarray, " r"],
) -> Found:
    """Ranks a small gallery exactly, whatever its size without compiling anything for it.

    A matrix product, which gives equal vectors scores that differ in the last bit, says which rows
    may be among the best; these are scored one by one.
    """
    count = min(k, len(gallery))
    scores = np.full((len(queries), count), np.nan, np.float32)
    rows = np.full(scores.shape, -1)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        products = queries[start : start + QUERIES_AT_ONCE] @ gallery.T
        for place, product in enumerate(np.where(allowed, products, -np.inf), start):
            likely = _likely(product, count, gallery.shape[1])
            exact = cosines(queries[place], gallery[likely])
            best = np.argsort(-exact, kind="stable")[:count]
            scores[place, : len(best)], rows[place, : len(best)] = exact[best], likely[best]
    return scores, rows


def _likely(product: Float[np.ndarray, " r"], k: int, dim: int) -> Int[np.ndarray, " _"]:
    """Returns the rows that are among the k best by any rounding of their products."""
    least = np.partition(product, len(product) - k)[len(product) - k]
    # Two sums of the same `dim` products, of unit vectors, differ by less than half of this.
    error = 2 * dim * np.finfo(np.float32).eps
    return np.flatnonzero((product >= least - error) & (product > -np.inf))


def cosines(
    query: Float[np.ndarray, " d"], vectors: Float[np.ndarray, "n d"]
) -> Float32[np.ndarray, " n"]:
    """Returns scores that are the same for equal vectors, wherever they stand."""
    return np.einsum("nd,d->n", vectors, query).astype(np.float32, copy=False)


def _merge(parts: Sequence[Found], queries: int, k: int) -> Found:
    """Returns the k best of several answers."""
    nothing = np.full((queries, k), np.nan, np.float32), np.full((queries, k), -1)
    scores, rows = (np.concatenate(each, axis=1) for each in zip(*parts, nothing, strict=True))
    ranked = np.where(rows < 0, -np.inf, scores)
    order = np.lexsort((rows, -ranked), axis=1)[:, :k]
    scores, rows = (np.take_along_axis(each, order, axis=1) for each in (scores, rows))
    return scores.astype(np.float32), rows.astype(np.int32)
