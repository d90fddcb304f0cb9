"""One interface over two indexes: exact (jax) and ScaNN; built into a folder and loaded from it.

The folder holds `index.json` (kind, recipe, rows, dim, fingerprint, recall against exact search)
and the data: `vectors.npy` for exact, ScaNN's own files for ScaNN. Whoever calls writes the
manifest and publishes the folder.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Float, Int

from rejepa_jax.retrieval.exact import check_query, check_vectors, top_k
from rejepa_jax.types import ConfigError, DataError

SCHEMA = "rejepa-index/1"
VECTORS = "vectors.npy"
RECALL_QUERIES = 1000
CONSTANT_TOLERANCE = 1e-6

Nearest = Callable[
    [Float[np.ndarray, "q d"], int], tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]
]


@dataclasses.dataclass(frozen=True)
class Index:
    """A loaded index; `nearest` is the engine, `search` what to call."""

    kind: str
    size: int
    dim: int
    fingerprint: str
    nearest: Nearest

    def search(
        self, queries: Float[np.ndarray, "q _d"], k: int
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """Finds k gallery rows for each query: (cosine, row), best first, equal scores by row.

        Raises:
          ConfigError: k is not in 1..size, or the queries are not as wide as the index.
          DataError: a query is not a finite unit vector.
        """
        check_query(queries.shape[1], k, rows=self.size, width=self.dim)
        check_vectors(queries, "queries")
        return self.nearest(np.ascontiguousarray(queries, np.float32), k)


def build(
    embeddings: Float[np.ndarray, "r d"], directory: Path, kind: str, fingerprint: str
) -> dict[str, Any]:
    """Writes an index of unit vectors and returns what `index.json` says.

    `kind` is exact, scann, or auto: ScaNN where it is installed, else exact. ScaNN runs in a
    process of its own, because a fault in it ends the process that it runs in.

    Raises:
      ConfigError: unknown kind, ScaNN asked for where it is not, or ScaNN failed.
      DataError: vectors that no index may hold.
    """
    check_embeddings(embeddings)
    engine = _choose(kind)
    rows, dim = embeddings.shape
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / VECTORS, np.ascontiguousarray(embeddings, np.float32), allow_pickle=False)
    recipe = {}
    if engine == "scann":
        recipe = scann_recipe(rows)
        _run_scann(directory, recipe)
        (directory / VECTORS).unlink()
    info = {
        "schema": SCHEMA,
        "kind": engine,
        "recipe": recipe,
        "rows": rows,
        "dim": dim,
        "fingerprint": fingerprint,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES[engine]},
    }
    nearest = ENGINES[engine](directory, info)
    info["recall_at_10"] = 1.0 if engine == "exact" else recall_at_10(nearest, embeddings)
    (directory / "index.json").write_text(json.dumps(info, indent=2, sort_keys=True) + "\n")
    logging.info(
        "index: %s %s (asked for: %s), %d rows of %d, recall@10 %.3f against exact search",
        *(engine, recipe or "(brute force)", kind, rows, dim, info["recall_at_10"]),
    )
    return info


def load(directory: Path) -> Index:
    """Opens an index folder.

    Raises:
      FileNotFoundError: no `index.json`.
      ConfigError: a ScaNN index where ScaNN is not installed.
      DataError: files that do not fit `index.json`.
    """
    path = directory / "index.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there, expected an index; run the index stage")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: got a file that is no JSON; index again") from error
    if info.get("schema") != SCHEMA or info.get("kind") not in ENGINES:
        raise DataError(
            f"{path}: got schema {info.get('schema')} and kind {info.get('kind')}, expected "
            f"{SCHEMA} and one of {sorted(ENGINES)}; index again"
        )
    nearest = ENGINES[info["kind"]](directory, info)
    return Index(info["kind"], info["rows"], info["dim"], info["fingerprint"], nearest)


def check_embeddings(embeddings: Float[np.ndarray, "r d"]) -> None:
    """Refuses vectors that are not finite, not of length 1, or all the same.

    Raises:
      DataError: naming the first bad rows.
    """
    if not len(embeddings):
        raise DataError("embeddings: got no rows, expected at least one; embed the archive first")
    check_vectors(embeddings, "embeddings")
    spread = (embeddings.max(axis=0) - embeddings.min(axis=0)).max()
    if len(embeddings) > 1 and spread <= CONSTANT_TOLERANCE:
        raise DataError(
            f"embeddings: got {len(embeddings)} equal vectors (largest difference {spread:.1e}), "
            "expected different ones; the encoder has collapsed or was fed constant images"
        )


def scann_recipe(rows: int) -> dict[str, int]:
    """Chooses ScaNN's parts by size, after its own guide (docs/algorithms.md).

    Below 20 000 rows brute force; below 100 000 hashing and re-ordering; above, a tree of
    sqrt(rows) leaves too, of which a tenth is searched.
    """
    if rows < 20_000:
        return {}
    if rows < 100_000:
        return {"reorder": 200}
    leaves = math.isqrt(rows)
    return {"leaves": leaves, "leaves_to_search": math.ceil(leaves / 10), "reorder": 200}


def recall_at_10(nearest: Nearest, embeddings: Float[np.ndarray, "r d"]) -> float:
    """Measures the share of the true 10 neighbours that are found, for up to 1000 of the rows.

    Gallery rows are the queries; a row is not counted as its own neighbour.
    """
    rows = len(embeddings)
    k = min(10, rows - 1)
    if k == 0:
        return 1.0
    sample = np.random.default_rng(0).permutation(rows)[:RECALL_QUERIES]
    queries = np.ascontiguousarray(embeddings[sample], np.float32)
    found = _without_self(nearest(queries, k + 1)[1], sample, k)
    true = _without_self(top_k(queries, embeddings, k + 1)[1], sample, k)
    return float((found[:, :, None] == true[:, None, :]).any(axis=1).mean())


def _without_self(rows: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Drops each query's own row from its k + 1 neighbours, or the last where it is not found."""
    is_own = rows == own[:, None]
    order = np.argsort(is_own, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1)


def _choose(kind: str) -> str:
    installed = importlib.util.find_spec("scann") is not None
    if kind == "auto":
        return "scann" if installed else "exact"
    if kind not in ENGINES:
        raise ConfigError(f"got index kind {kind!r}, expected auto or one of {sorted(ENGINES)}")
    if kind == "scann" and not installed:
        raise ConfigError("got index kind 'scann' without ScaNN; install scann or use 'exact'")
    return kind


def _run_scann(directory: Path, recipe: dict[str, int]) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_write_scann, args=(str(directory), recipe), daemon=True
    )
    process.start()
    process.join()
    if process.exitcode != 0:
        raise ConfigError(
            f"{directory}: ScaNN {recipe} ended with exit code {process.exitcode} (its message is "
            "above), expected 0; see that `import scann` works here, or use index kind 'exact'"
        )


def _write_scann(directory: str, recipe: dict[str, int]) -> None:
    """Builds and writes a ScaNN index of `vectors.npy`; runs in a process of its own."""
    import scann  # optional, and only on Linux

    vectors = np.load(Path(directory, VECTORS), allow_pickle=False)
    builder = scann.scann_ops_pybind.builder(vectors, 10, "dot_product")
    if "leaves" in recipe:
        builder = builder.tree(
            recipe["leaves"], recipe["leaves_to_search"], min(len(vectors), 250_000)
        )
    if "reorder" in recipe:
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        builder = builder.reorder(recipe["reorder"])
    else:
        builder = builder.score_brute_force()
    # ScaNN's default writes absolute paths, which break when the folder is published.
    builder.build().serialize(directory, relative_path=True)


def _open_exact(directory: Path, info: dict[str, Any]) -> Nearest:
    gallery = jnp.asarray(_vectors(directory / VECTORS, info))  # on the device once, not per query
    return lambda queries, k: top_k(queries, gallery, k)


def _open_scann(directory: Path, info: dict[str, Any]) -> Nearest:
    _check_scann_folder(directory, info)
    import scann  # optional, and only on Linux

    try:
        searcher = scann.scann_ops_pybind.load_searcher(str(directory), False)
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{directory}: got ScaNN files that do not load; index again") from error
    recipe = info["recipe"]

    def nearest(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        # Hashed scores only pick candidates for exact ones: with a long list they need slack.
        depth = max(recipe.get("reorder", k), 2 * k)
        rows, scores = searcher.search_batched(queries, k, depth)
        if np.isnan(scores).any():  # the leaves searched hold fewer than k rows
            rows, scores = searcher.search_batched(queries, k, depth, recipe["leaves"])
        order = np.lexsort((rows, -scores), axis=1)
        scores, rows = (np.take_along_axis(np.asarray(a), order, axis=1) for a in (scores, rows))
        return scores, rows.astype(np.int32)

    return nearest


def _check_scann_folder(directory: Path, info: dict[str, Any]) -> None:
    if importlib.util.find_spec("scann") is None:
        raise ConfigError(f"{directory}: a ScaNN index, but ScaNN is not here; pip install scann")
    _vectors(directory / "dataset.npy", info)
    if (directory / "scann_docids.pkl").exists():
        raise DataError(f"{directory}: got scann_docids.pkl, which ScaNN would unpickle; delete it")


def _vectors(path: Path, info: dict[str, Any]) -> np.ndarray:
    """Opens the float32 vectors of an index without reading them, held against `index.json`."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: got no readable array ({error}); index again") from error
    got, expected = (vectors.shape, vectors.dtype), ((info["rows"], info["dim"]), np.float32)
    if got != expected:
        raise DataError(f"{path}: got {got}, expected {expected}; files of two indexes are mixed")
    return vectors


ENGINES = {"exact": _open_exact, "scann": _open_scann}
PACKAGES = {"exact": ("jax", "numpy"), "scann": ("scann", "numpy")}
