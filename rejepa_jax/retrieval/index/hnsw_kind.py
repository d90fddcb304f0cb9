"""The kind `hnsw`: a graph of near neighbours, walked from afar (hnswlib)."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from rejepa_jax.retrieval.exact import top_k
from rejepa_jax.retrieval.index.filtering import with_filter
from rejepa_jax.retrieval.index.interface import Answer, Kind, Nearest, Recipe
from rejepa_jax.retrieval.index.ranking import rerank
from rejepa_jax.retrieval.index.stored import VECTORS
from rejepa_jax.types import DataError

FILE = "hnsw.bin"
ADDED = 65536  # rows at a time


def _write(directory: Path, recipe: Recipe) -> None:
    import hnswlib  # pyrefly: ignore[missing-import]

    vectors = np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)
    rows, dim = vectors.shape
    graph = hnswlib.Index("ip", dim)
    graph.init_index(rows, M=recipe["links"], ef_construction=recipe["effort"], random_seed=0)
    for start in range(0, rows, ADDED):
        stop = min(start + ADDED, rows)
        graph.add_items(np.ascontiguousarray(vectors[start:stop]), np.arange(start, stop))
    graph.save_index(str(directory / FILE))


def _open(directory: Path, recipe: Recipe, stored: Float[np.ndarray, "r d"]) -> Nearest:
    import hnswlib  # pyrefly: ignore[missing-import]

    graph = hnswlib.Index("ip", stored.shape[1])
    try:
        graph.load_index(str(directory / FILE))
    except RuntimeError as error:
        raise DataError(f"{directory / FILE}: got what hnswlib cannot read; index again") from error

    def nearest(queries: np.ndarray, k: int) -> Answer:
        graph.set_ef(max(k, recipe["breadth"]))
        try:
            rows, _ = graph.knn_query(queries, k)
        except RuntimeError:  # its walk reaches fewer than k rows
            return top_k(queries, stored, k)
        return rerank(queries, rows.astype(np.int32), stored, k)

    return with_filter(nearest, stored)


HNSW = Kind(
    write=_write,
    open=_open,
    recipe=lambda _: {"links": 16, "effort": 200, "breadth": 100},
    ladders=lambda _: {"breadth": (11, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)},
    packages=("hnswlib", "numpy"),
    module="hnswlib",
)
