"""Exact nearest neighbours by inner product, in blocks: the truth that other indexes are held to.

The device holds the gallery and one block of scores, never all queries times all rows. On unit
vectors the inner product is the cosine.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rejepa_jax.types import ConfigError, DataError

UNIT_TOLERANCE = 1e-3

# Equal scores rank by row. `lax.top_k` puts the smaller position first among equals; blocks are
# visited in row order and the best so far stand before the new block, so position order is row
# order at every merge.
Best = tuple[Float[Array, "q k"], Int[Array, "q k"]]


def top_k(
    queries: Float[np.ndarray | Array, "q _d"],
    gallery: Float[np.ndarray | Array, "r d"],
    k: int,
    *,
    query_block: int = 1024,
    gallery_block: int = 65536,
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Finds the k best gallery rows of each query: (scores float32, rows int32), best first.

    A jax array as gallery stays where it is; anything else is put on the default device once. One
    compilation serves all calls with the same gallery shape, k and query block, which is the power
    of two that holds the queries, up to `query_block`.

    Raises:
      ConfigError: k is not in 1..r, or queries and gallery differ in width.
      DataError: a score is not finite.
    """
    check_query(queries.shape[1], k, rows=len(gallery), width=gallery.shape[1])
    count = len(queries)
    step = min(query_block, 1 << max(count - 1, 0).bit_length())
    block = min(gallery_block, len(gallery))
    gallery = jnp.asarray(gallery, jnp.float32)
    scores, rows = np.empty((count, k), np.float32), np.empty((count, k), np.int32)
    for start in range(0, count, step):
        part = np.asarray(queries[start : start + step], np.float32)
        padded = np.pad(part, ((0, step - len(part)), (0, 0)))
        best, finite = _search(padded, gallery, k=k, block=block)
        if not finite:
            raise DataError(
                f"got scores that are not finite for queries {start} to {start + len(part) - 1}, "
                "expected finite vectors; check queries and gallery for NaN"
            )
        window = slice(start, start + len(part))
        scores[window], rows[window] = (np.asarray(x)[: len(part)] for x in best)
    return scores, rows


def check_query(got_width: int, k: int, *, rows: int, width: int) -> None:
    """Refuses a search that a gallery of `rows` vectors of `width` numbers cannot answer."""
    if got_width != width:
        raise ConfigError(
            f"got queries with {got_width} dimensions, expected {width}: query and index come "
            "from different encoders; embed the query with the encoder that made the index"
        )
    if not 0 < k <= rows:
        raise ConfigError(f"got k = {k}, expected 1 to {rows} (the rows of the gallery); change k")


def check_vectors(vectors: Float[np.ndarray, "r d"], source: str) -> None:
    """Refuses rows that are not finite or not of length 1, naming `source` and the first of them.

    Raises:
      DataError: such a row; it would pass through an index in silence, or end ScaNN's process.
    """
    # One pass without a copy; a sum of squares is finite only where every number is.
    lengths = np.sqrt(np.einsum("rd,rd->r", vectors, vectors))
    for name, bad in (
        ("numbers that are not finite", ~np.isfinite(lengths)),
        ("a length other than 1", np.abs(lengths - 1) > UNIT_TOLERANCE),
    ):
        if bad.any():
            raise DataError(
                f"{source}: got {bad.sum()} of {len(vectors)} vectors with {name}, first in rows "
                f"{np.flatnonzero(bad)[:5].tolist()}, expected finite L2-normalised vectors; look "
                "at these images and at the encoder that embedded them"
            )


@functools.partial(jax.jit, static_argnames=("k", "block"))
def _search(
    queries: Float[Array | np.ndarray, "q d"], gallery: Float[Array, "r d"], *, k: int, block: int
) -> tuple[Best, Bool[Array, ""]]:
    """Returns the best of each query, and whether every score was finite."""
    size = gallery.shape[0]

    def visit(best: Best, first: Int[Array, ""]) -> tuple[Best, Bool[Array, ""]]:
        # The last block reaches back to stay full: no copy of the gallery is padded. Rows before
        # `first` were seen in the block before.
        start = jnp.minimum(first, size - block)
        rows = start + jnp.arange(block, dtype=jnp.int32)
        vectors = jax.lax.dynamic_slice_in_dim(gallery, start, block)
        # HIGHEST: TPUs and GPUs would else round the inputs, and rank unlike the CPU.
        scores = jnp.matmul(queries, vectors.T, precision=jax.lax.Precision.HIGHEST)
        finite = jnp.isfinite(scores).all()
        scores = jnp.where(scores == 0, 0.0, scores)  # top_k ranks -0.0 below 0.0: no tie
        scores = jnp.where((rows >= first)[None, :], scores, -jnp.inf)
        scores, columns = jax.lax.top_k(scores, min(k, block))
        return _merge(best, (scores, rows[columns]), k), finite

    nothing = (
        jnp.full((len(queries), k), -jnp.inf, jnp.float32),
        jnp.full((len(queries), k), -1, jnp.int32),
    )
    firsts = jnp.arange(0, size, block, dtype=jnp.int32)
    best, finite = jax.lax.scan(visit, nothing, firsts)
    return best, finite.all()


def _merge(best: Best, found: tuple[Float[Array, "q j"], Int[Array, "q j"]], k: int) -> Best:
    scores, rows = (jnp.concatenate(pair, axis=1) for pair in zip(best, found, strict=True))
    scores, columns = jax.lax.top_k(scores, k)
    return scores, jnp.take_along_axis(rows, columns, axis=1)
