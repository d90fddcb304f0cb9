"""The kind `faiss`: FAISS's lists of whole vectors around centroids (IVF-Flat)."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rejepa_jax.retrieval.index.filtering import with_filter
from rejepa_jax.retrieval.index.interface import Answer, Kind, Nearest, Recipe
from rejepa_jax.retrieval.index.ranking import ordered
from rejepa_jax.retrieval.index.stored import VECTORS
from rejepa_jax.types import DataError

FILE = "ivf_flat.faiss"
ROWS_A_CENTROID = 64  # to train on; FAISS asks for 39 at least
ADDED = 65536  # rows at a time


def _recipe(rows: int) -> Recipe:
    # FAISS's guide: 4 to 16 times sqrt(rows) lists below a million rows.
    lists = max(1, min(4 * math.isqrt(rows), rows // ROWS_A_CENTROID))
    return {"lists": lists, "probes": math.ceil(lists / 50)}


def _ladders(recipe: Recipe) -> dict[str, list[int]]:
    steps = (round(2 ** (step / 2)) for step in range(2 * recipe["lists"].bit_length() + 1))
    return {"probes": sorted({min(recipe["lists"], probes) for probes in steps})}


def _write(directory: Path, recipe: Recipe) -> None:
    import faiss  # optional: extra `engines`

    vectors = np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)
    rows, dim = vectors.shape
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dim), dim, recipe["lists"], faiss.METRIC_INNER_PRODUCT
    )
    drawn = np.random.default_rng(0).permutation(rows)[: ROWS_A_CENTROID * recipe["lists"]]
    index.train(np.ascontiguousarray(vectors[np.sort(drawn)]))
    for start in range(0, rows, ADDED):
        index.add(np.ascontiguousarray(vectors[start : start + ADDED]))
    faiss.write_index(index, str(directory / FILE))


def _open(directory: Path, recipe: Recipe, stored: Float[np.ndarray, "r d"]) -> Nearest:
    import faiss  # optional: extra `engines`

    try:
        index = faiss.read_index(str(directory / FILE))
    except RuntimeError as error:
        raise DataError(f"{directory / FILE}: got what FAISS cannot read; index again") from error

    def nearest(queries: np.ndarray, k: int) -> Answer:
        settings = faiss.SearchParametersIVF()
        settings.nprobe = recipe["probes"]
        scores, rows = index.search(queries, k, params=settings)
        short = (rows < 0).any(axis=1)  # the lists searched hold fewer than k rows
        if short.any():
            settings.nprobe = recipe["lists"]
            scores[short], rows[short] = index.search(queries[short], k, params=settings)
        return ordered(scores, rows.astype(np.int32), k)

    return with_filter(nearest, stored)


FAISS = Kind(
    write=_write,
    open=_open,
    recipe=_recipe,
    ladders=_ladders,
    packages=("faiss-cpu", "numpy"),
    module="faiss",
)
