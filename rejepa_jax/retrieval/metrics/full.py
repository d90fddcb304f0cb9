"""Metrics of the ranking of a whole gallery, a block of queries at a time.

No more than a block of scores is in memory. To rank 590,326 rows of 384 numbers and to score that
takes some 60 ms of a core for each query: it is for small galleries, or for a sample of queries.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rejepa_jax.retrieval.metrics import catalogue, intervals
from rejepa_jax.retrieval.metrics.blocks import blocks
from rejepa_jax.retrieval.metrics.evaluating import Task, join, measure_full
from rejepa_jax.retrieval.metrics.intervals import Score
from rejepa_jax.retrieval.metrics.sets import Columns
from rejepa_jax.types import ConfigError, DataError

SCORES = 1 << 24  # in memory at once: 64 MB
ROWS = 1 << 15  # of the gallery that are multiplied at once


def measure_gallery(
    task: Task, queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> Columns:
    """Scores each query by the order of the whole gallery: inner product, then row.

    Raises:
        ConfigError: vectors and labels are not of the same images.
        DataError: a score is not finite.
    """
    sizes = (len(queries), len(gallery)), (len(task.query_labels), len(task.gallery_labels))
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"got vectors of {sizes[0]} queries and rows, and labels of {sizes[1]}, expected the "
            "same images; read both from one export"
        )
    return join([measure_full(task, *found) for found in rank_gallery(task, queries, gallery)])


def evaluate_gallery(
    task: Task, queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> dict[str, Score]:
    """Returns every metric of rankings of the whole gallery."""
    columns = measure_gallery(task, queries, gallery)
    return intervals.scores(columns, catalogue.full(task.rules))


def rank_gallery(
    task: Task, queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> Iterator[tuple[slice, Int[np.ndarray, "b r"]]]:
    """Yields rankings of all rows for some queries after others, -1 after what is excluded."""
    rows = len(gallery)
    for wide in blocks(len(queries), rows, SCORES):
        scores = multiply(queries[wide], gallery)
        if not np.isfinite(scores).all():
            raise DataError(
                f"got scores that are not finite for queries {wide.start} to {wide.stop - 1}, "
                "expected finite vectors; check queries and gallery for NaN"
            )
        for narrow in blocks(len(scores), rows):
            part = slice(wide.start + narrow.start, wide.start + narrow.stop)
            ranking = order(scores[narrow])
            if task.excluded is not None:
                ranking = task.excluded.pick(part).drop(ranking, rows)
            yield part, ranking


def multiply(
    queries: Float[np.ndarray, "b d"], gallery: Float[np.ndarray, "r d"]
) -> Float[np.ndarray, "b r"]:
    """Returns inner products, equal ones for equal vectors wherever they stand.

    The products of numpy's BLAS depend on where in a matrix a vector stands, in the last bit, and
    XLA's may on the shape: all blocks of the gallery are of one shape.
    """
    scores = np.empty((len(queries), len(gallery)), np.float32)
    asked, size = np.asarray(queries, np.float32), min(ROWS, len(gallery))
    for first in range(0, len(gallery), size):
        start = min(first, len(gallery) - size)
        part = np.asarray(gallery[start : start + size], np.float32)
        scores[:, start : start + size] = _multiply(asked, part)
    return scores


@jax.jit
def _multiply(queries: Float[Array, "b d"], gallery: Float[Array, "r d"]) -> Float[Array, "b r"]:
    return jnp.matmul(queries, gallery.T, precision=jax.lax.Precision.HIGHEST)


def order(scores: Float[np.ndarray, "b r"]) -> Int[np.ndarray, "b r"]:
    """Returns the rows by falling score, equal scores by row.

    Seven times as fast as a stable argsort: score and row become one integer, which numpy sorts in
    vector registers. The bits of a positive float32 grow with it, those of a negative one fall.
    """
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    packed = falling.astype(np.uint64) << np.uint64(32)
    packed |= np.arange(scores.shape[1], dtype=np.uint64)[None, :]
    packed.sort(axis=1)
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
