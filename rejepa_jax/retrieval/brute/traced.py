"""The best k of a gallery, one block of scores at a time; all of it is traced.

Equal scores rank by row. `lax.top_k` puts the smaller position first among equals; blocks are
visited in row order and the best so far stand before the new block, so position order is row order
at every step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Shaped

from rejepa_jax.retrieval.brute.products import likeness

MOST_SCORES = 1 << 27  # of a block on an accelerator: half a gigabyte, so that steps are few
CPU_SCORES = 1 << 22  # on a CPU: as many as caches hold
MOST_ROWS = 1 << 20  # of a block: few steps even for one query


class Gallery(NamedTuple):
    """Vectors in any type; a row's scores are multiplied with its scale, and count if allowed."""

    vectors: Shaped[Array | np.ndarray, "r d"]
    scale: Float[Array | np.ndarray, " r"] | None = None
    allowed: Bool[Array | np.ndarray, " r"] | None = None

    def map(self, change: Callable[[Array | np.ndarray], Array | np.ndarray]) -> "Gallery":
        """Changes what there is of the three in the same way."""
        scale, allowed = (leaf if leaf is None else change(leaf) for leaf in self[1:])
        return Gallery(change(self.vectors), scale, allowed)


class Best(NamedTuple):
    """The best so far; score -inf and row -1 where there are fewer than k."""

    scores: Float[Array, "q k"]
    rows: Int[Array, "q k"]
    is_finite: Bool[Array, ""]  # no score was nan or infinite


def nothing(queries: int, k: int) -> Best:
    """Returns the best of no rows."""
    scores = jnp.full((queries, k), -jnp.inf, jnp.float32)
    return Best(scores, jnp.full((queries, k), -1, jnp.int32), jnp.asarray(True))


def block_rows(queries: int, rows: int, k: int, most: int = MOST_ROWS) -> int:
    """Chooses how many of `rows` make a block: equal blocks, since the last one is always full."""
    scores = CPU_SCORES if jax.default_backend() == "cpu" else MOST_SCORES
    most = min(most, max(scores // queries, 1024), rows)
    group = group_size(most, k)
    block = group * math.ceil(rows / math.ceil(rows / most) / group)
    return min(block, rows)


def group_size(rows: int, k: int) -> int:
    """How many rows are ranked by their best one first: a power of two near sqrt(rows / k)."""
    return 1 << max(0, min(7, round(math.log2(rows / k) / 2)))


def search(
    queries: Shaped[Array | np.ndarray, "q d"],
    gallery: Gallery,
    best: Best,
    offset: Int32[Array | np.ndarray, ""],
    block: int,
    pick: Callable[[Float[Array, "q r"], int], Best],
) -> Best:
    """Updates `best` with all rows of a gallery, of which the first has the number `offset`."""
    size, k = len(gallery.vectors), best.scores.shape[1]

    def visit(best: Best, first: Int[Array, ""]) -> tuple[Best, None]:
        # The last block reaches back to stay full: no copy of the gallery is padded.
        start = jnp.minimum(first, size - block)
        part = gallery.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, block))
        counts = start + jnp.arange(block, dtype=jnp.int32) >= first
        counts = counts if part.allowed is None else counts & part.allowed
        scores = likeness(queries, part.vectors, part.scale)
        found = pick(jnp.where(counts[None, :], scores, -jnp.inf), k)
        return merge(best, found._replace(rows=found.rows + (offset + start))), None

    return jax.lax.scan(visit, best, jnp.arange(0, size, block, dtype=jnp.int32))[0]


def select(scores: Float[Array, "q r"], k: int) -> Best:
    """Finds the best k of one block.

    A row among the best k is in one of the best k groups of neighbouring rows, by the best score
    of each: so only the members of these are ranked.
    """
    queries, rows = scores.shape
    k = min(k, rows)
    size = group_size(rows, k)
    if rows % size or rows // size <= k:
        best, columns = jax.lax.top_k(scores, k)
        return Best(best, columns, (scores < jnp.inf).all())
    grouped = scores.reshape(queries, rows // size, size)
    maxima = grouped.max(axis=2)
    groups = jnp.sort(jax.lax.top_k(maxima, k)[1], axis=1)  # in row order, for equal scores
    members = jnp.take_along_axis(grouped, groups[:, :, None], axis=1).reshape(queries, k * size)
    best, places = jax.lax.top_k(members, k)
    group = jnp.take_along_axis(groups, places // size, axis=1)
    return Best(best, group * size + places % size, (maxima < jnp.inf).all())


def select_about(scores: Float[Array, "q r"], k: int, recall_target: float) -> Best:
    """Finds most of the best k of one block, by the partial reduction that TPUs are fast at."""
    best, columns = jax.lax.approx_max_k(
        scores, min(k, scores.shape[1]), recall_target=recall_target
    )
    return Best(best, columns, (best < jnp.inf).all())


def merge(best: Best, found: Best) -> Best:
    """Joins the best so far with those of later rows."""
    scores = jnp.concatenate([best.scores, found.scores], axis=1)
    rows = jnp.concatenate([best.rows, found.rows], axis=1)
    scores, columns = jax.lax.top_k(scores, best.scores.shape[1])
    rows = jnp.take_along_axis(rows, columns, axis=1)
    return Best(scores, rows, best.is_finite & found.is_finite)
