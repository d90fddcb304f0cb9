"""The kinds `int8` and `bits`: compact codes pick candidates, exact vectors on disk rank them.

Both compare every row. What is in memory is a quarter, or a thirty-second, of the vectors.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from rejepa_jax.retrieval.codes import bit_codes, int8_codes, words
from rejepa_jax.retrieval.exact import place, top_k
from rejepa_jax.retrieval.index.interface import Answer, Kind, Nearest, Recipe
from rejepa_jax.retrieval.index.ranking import rerank
from rejepa_jax.retrieval.index.stored import VECTORS, open_array

CODES, SCALE, MEAN = "codes.npy", "scale.npy", "mean.npy"
BLOCK = 65536  # rows that are coded at a time
LEAST = 10  # neighbours that candidates are reckoned for, however few are asked for


def _write_int8(directory: Path, _: Recipe) -> None:
    vectors = np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)
    rows, dim = vectors.shape
    codes = np.lib.format.open_memmap(directory / CODES, "w+", np.int8, (rows, dim))
    scale = np.empty(rows, np.float32)
    for start in range(0, rows, BLOCK):
        window = slice(start, start + BLOCK)
        codes[window], scale[window] = int8_codes(vectors[window])
    codes.flush()
    np.save(directory / SCALE, scale)


def _open_int8(directory: Path, recipe: Recipe, stored: Float[np.ndarray, "r d"]) -> Nearest:
    codes = place(open_array(directory / CODES, stored.shape, np.int8))
    scale = place(open_array(directory / SCALE, stored.shape[:1]))

    def pick(queries: np.ndarray, k: int, allowed: np.ndarray | None) -> np.ndarray:
        return top_k(queries, codes, k, allowed, scale=scale)[1]

    return _reranked(pick, recipe, stored)


def _write_bits(directory: Path, _: Recipe) -> None:
    vectors = np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)
    rows, dim = vectors.shape
    # Bits say most where each is as often one as zero: about the mean, not about zero.
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    codes = np.lib.format.open_memmap(directory / CODES, "w+", np.uint32, (rows, -(-dim // 32)))
    for start in range(0, rows, BLOCK):
        window = slice(start, start + BLOCK)
        codes[window] = words(bit_codes(vectors[window] - mean[None, :]))
    codes.flush()
    np.save(directory / MEAN, mean)


def _open_bits(directory: Path, recipe: Recipe, stored: Float[np.ndarray, "r d"]) -> Nearest:
    rows, dim = stored.shape
    codes = place(open_array(directory / CODES, (rows, -(-dim // 32)), np.uint32))
    mean = np.array(open_array(directory / MEAN, (dim,)))

    def pick(queries: np.ndarray, k: int, allowed: np.ndarray | None) -> np.ndarray:
        return top_k(words(bit_codes(queries - mean[None, :])), codes, k, allowed)[1]

    return _reranked(pick, recipe, stored)


def _reranked(
    pick: Callable[[np.ndarray, int, np.ndarray | None], np.ndarray],
    recipe: Recipe,
    stored: Float[np.ndarray, "r d"],
) -> Nearest:
    def nearest(queries: np.ndarray, k: int, allowed: Bool[np.ndarray, " r"] | None) -> Answer:
        count = min(len(stored), max(k, LEAST) * recipe["candidates"])
        return rerank(queries, pick(queries, count, allowed), stored, k)

    return nearest


INT8 = Kind(
    write=_write_int8,
    open=_open_int8,
    recipe=lambda _: {"candidates": 2},
    ladders=lambda _: {"candidates": (1, 2, 3, 4, 8)},
    target=0.99,
)
BITS = Kind(
    write=_write_bits,
    open=_open_bits,
    recipe=lambda _: {"candidates": 20},
    ladders=lambda _: {"candidates": (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200)},
)
