"""The kind `scann`: a tree of leaves, hashed scores in some of them, exact scores for the best.

After ScaNN's own guide (docs/algorithms.md) and AlloyDB's rules for it: brute force below 20 000
rows, about sqrt(rows) leaves above, two numbers a hash block, re-ordering always. The guide would
leave the tree out below 100 000 rows; with it, 50 000 were searched ten times as fast.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rejepa_jax.retrieval.index.filtering import with_filter
from rejepa_jax.retrieval.index.interface import Answer, Kind, Nearest, Recipe
from rejepa_jax.retrieval.index.ranking import ordered
from rejepa_jax.retrieval.index.scann_building import build
from rejepa_jax.retrieval.index.stored import VECTORS
from rejepa_jax.types import ConfigError, DataError

DATASET = "dataset.npy"  # ScaNN's name for the exact vectors
DOCUMENTS = "scann_docids.pkl"
LEAST_ROWS = 20_000  # that are not searched by brute force
CANDIDATES = (2, 3, 4, 6, 8, 12, 16, 24, 32)
SHARES = (
    0.002,
    0.003,
    0.005,
    0.007,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.07,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1,
)
MANY = 256  # queries, for which starting threads pays
LEAST = 10  # neighbours that candidates are reckoned for, however few are asked for


def scann_recipe(rows: int) -> Recipe:
    """Chooses ScaNN's parts by size; what it searches with is tuned when it is built."""
    if rows < LEAST_ROWS:
        return {}
    leaves = math.isqrt(rows)
    return {"leaves": leaves, "leaves_to_search": math.ceil(leaves / 20), "candidates": 8}


def ladders(recipe: Recipe) -> dict[str, list[int]]:
    """What is tuned: exact scores for each neighbour asked for, then leaves to search."""
    if not recipe:
        return {}
    leaves = {math.ceil(share * recipe["leaves"]) for share in SHARES}
    return {"candidates": list(CANDIDATES), "leaves_to_search": sorted(leaves)}


def _write(directory: Path, recipe: Recipe) -> None:
    """Builds in a process of its own, because a fault in ScaNN ends the process it runs in."""
    code = f"from {build.__module__} import build; build(*json.loads(sys.argv[1]))"
    settings = json.dumps([str(directory), VECTORS, recipe, LEAST * recipe.get("candidates", 1)])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", f"import json, sys; {code}", settings], env=environment, check=False
    )
    if process.returncode != 0:
        raise ConfigError(
            f"{directory}: ScaNN {recipe} ended with exit code {process.returncode} (its message "
            "is above), expected 0; see that `import scann` works here, or use index kind 'exact'"
        )
    (directory / VECTORS).unlink()


def _open(directory: Path, recipe: Recipe, stored: Float[np.ndarray, "r d"]) -> Nearest:
    if (directory / DOCUMENTS).exists():
        raise DataError(f"{directory}: got {DOCUMENTS}, which ScaNN would unpickle; delete it")
    import scann  # optional, and only on Linux

    try:
        searcher = scann.scann_ops_pybind.load_searcher(str(directory), False)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{directory}: got ScaNN files that do not load; index again") from error

    def nearest(queries: np.ndarray, k: int) -> Answer:
        depth = max(k, LEAST) * recipe.get("candidates", 1)
        many = len(queries) >= MANY
        find = searcher.search_batched_parallel if many else searcher.search_batched
        rows, scores = find(queries, k, depth, recipe.get("leaves_to_search"))
        short = np.isnan(scores).any(axis=1)  # the leaves searched hold fewer than k rows
        if short.any():
            rows[short], scores[short] = find(queries[short], k, depth, recipe["leaves"])
        return ordered(scores, np.asarray(rows, np.int32), k)

    return with_filter(nearest, stored)


SCANN = Kind(
    write=_write,
    open=_open,
    recipe=scann_recipe,
    ladders=ladders,
    packages=("scann", "numpy"),
    module="scann",
    vectors=DATASET,
)
