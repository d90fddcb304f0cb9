"""Exact nearest neighbours by inner product, in blocks: the truth that other indexes are held to.

Never are all queries times all rows in memory, and the gallery may be a memory-mapped file larger
than it. On unit vectors the inner product is the cosine.
"""

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from rejepa_jax.retrieval.brute import on_cpu, on_device
from rejepa_jax.retrieval.brute.traced import MOST_ROWS
from rejepa_jax.types import ConfigError, DataError

UNIT_TOLERANCE = 1e-3


def top_k(
    queries: Shaped[np.ndarray | Array, "q _d"],
    gallery: Shaped[np.ndarray | Array, "r d"],
    k: int,
    allowed: Bool[np.ndarray, " r"] | None = None,
    *,
    scale: Float[np.ndarray | Array, " r"] | None = None,
    query_block: int = 1024,
    gallery_block: int = MOST_ROWS,
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Finds the k best gallery rows of each query: (scores float32, rows int32), best first.

    Equal scores rank by row. Where fewer than k rows are allowed, the rest is row -1 with a score
    of nan. The gallery may be of another type than float32 (int8, bfloat16, or uint32 words of bits
    as `codes.words` makes them); `scale` is what each row's scores are multiplied with. A jax array
    stays on its device; a numpy array is read where it is by the CPU, and part by part by an
    accelerator. One compilation serves all calls with the same power of two that holds the queries,
    and, on an accelerator, the same shape of gallery and power of two that holds k.

    Raises:
      ConfigError: k is not in 1..r, or queries and gallery differ in width.
      DataError: a query, or a score, is not finite.
    """
    check_query(queries.shape[1], k, rows=len(gallery), width=gallery.shape[1])
    squares = np.einsum("qd,qd->q", queries, queries, dtype=np.float64)
    _refuse(~np.isfinite(squares), "queries", "numbers that are not finite")
    starts = range(0, len(queries), query_block)
    kind = np.uint32 if gallery.dtype == np.uint32 else np.float32
    blocks = [np.asarray(queries[start : start + query_block], kind) for start in starts]
    engine = on_cpu if is_on_cpu(gallery) else on_device
    scores, rows = [np.empty((0, k), np.float32)], [np.empty((0, k), np.int32)]
    for found in engine.find(blocks, gallery, k, allowed, scale, gallery_block):
        scores.append(found[0])
        rows.append(found[1])
    return np.concatenate(scores), np.concatenate(rows)


def place(gallery: Shaped[np.ndarray, "r ..."]) -> Shaped[np.ndarray | Array, "r ..."]:
    """Puts a gallery that is searched often on the accelerator, where there is one with room."""
    if is_on_cpu(gallery) or len(gallery) > on_device.part_rows(gallery):
        return gallery
    return jax.device_put(gallery)


def is_on_cpu(array: np.ndarray | Array) -> bool:
    """Whether the CPU searches this array; numpy's arrays are searched by the default device."""
    if isinstance(array, jax.Array):
        return all(device.platform == "cpu" for device in array.devices())
    return jax.default_backend() == "cpu"


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
    _refuse(~np.isfinite(lengths), source, "numbers that are not finite")
    _refuse(np.abs(lengths - 1) > UNIT_TOLERANCE, source, "a length other than 1")


def _refuse(bad: Bool[np.ndarray | Array, " r"], source: str, fault: str) -> None:
    if bad.any():
        raise DataError(
            f"{source}: got {bad.sum()} of {len(bad)} vectors with {fault}, first in rows "
            f"{np.flatnonzero(bad)[:5].tolist()}, expected finite L2-normalised vectors; look at "
            "these images and at the encoder that embedded them"
        )
