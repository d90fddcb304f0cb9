"""Exact search on an accelerator: parts of the gallery are put there, all else is compiled."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, Shaped

from rejepa_jax.retrieval.brute.products import refuse_infinite
from rejepa_jax.retrieval.brute.traced import (
    MOST_ROWS,
    Best,
    Gallery,
    block_rows,
    nothing,
    search,
    select,
)

SHARE = 1 / 3  # of a device's free memory for a part of the gallery: two parts are there at a time


def find(
    blocks: Sequence[Shaped[np.ndarray, "_ d"]],
    gallery: Shaped[np.ndarray | Array, "r d"],
    k: int,
    allowed: Bool[np.ndarray, " r"] | None,
    scale: Float[np.ndarray | Array, " r"] | None,
    most_rows: int = MOST_ROWS,
) -> Iterator[tuple[Float32[np.ndarray, "_ k"], Int32[np.ndarray, "_ k"]]]:
    """Finds the best k rows of each block of queries; the gallery is put on the device in parts.

    Raises:
      DataError: a score is not finite.
    """
    rows, whole = len(gallery), Gallery(gallery, scale, allowed)
    queries = [padded(block) for block in blocks]
    best = [nothing(len(block), min(power_of_two(k), rows)) for block in queries]
    size = part_rows(gallery)
    for start in range(0, rows, size):
        window = slice(start, start + size)
        part = whole.map(lambda leaf, window=window: _put(leaf, window))
        jax.block_until_ready(best)  # what the part before the last took is free again
        for place, block in enumerate(queries):
            count = block_rows(len(block), len(part.vectors), k, most_rows)
            best[place] = _search(block, part, best[place], np.int32(start), block=count)
    for block, state in zip(blocks, best, strict=True):
        yield answer(state, len(block), k)


def part_rows(gallery: np.ndarray | Array) -> int:
    """How many rows of a gallery the default device has room for."""
    memory = jax.local_devices()[0].memory_stats()
    if memory is None or isinstance(gallery, jax.Array):
        return len(gallery)
    free = memory["bytes_limit"] - memory["bytes_in_use"]
    return max(1, int(SHARE * free / gallery[:1].nbytes))


def power_of_two(number: int) -> int:
    """Returns the smallest power of two that is not below `number`."""
    return 1 << max(number - 1, 0).bit_length()


_search = jax.jit(functools.partial(search, pick=select), static_argnames=("block",))


def _put(leaf: Array | np.ndarray, window: slice) -> Array:
    is_all = window.start == 0 and window.stop >= len(leaf)
    return jnp.asarray(leaf if is_all else leaf[window])


def padded(queries: Shaped[np.ndarray, "q d"]) -> Shaped[np.ndarray, "_ d"]:
    """Fills up to a power of two: few shapes to compile for."""
    return np.pad(queries, ((0, power_of_two(len(queries)) - len(queries)), (0, 0)))


def answer(
    best: Best, count: int, k: int
) -> tuple[Float32[np.ndarray, "_ k"], Int32[np.ndarray, "_ k"]]:
    """Reads `count` answers of k rows back; raises a DataError if a score is not finite."""
    refuse_infinite(best.is_finite)
    scores, rows = (np.array(leaf)[:count, :k] for leaf in best[:2])
    missing = np.isneginf(scores)
    scores[missing], rows[missing] = np.nan, -1
    return scores, rows
