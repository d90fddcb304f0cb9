"""What every index can do, whatever its kind."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from rejepa_jax.retrieval.exact import check_query, check_vectors
from rejepa_jax.types import ConfigError

# Scores and rows of k hits a query, best first, equal scores by row; row -1 with score nan where
# there are fewer.
Answer = tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]
Nearest = Callable[[Float[np.ndarray, "q d"], int, Bool[np.ndarray, " r"] | None], Answer]


Recipe = dict[str, Any]  # what an index is built from, and what it searches with


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of index. `write` finds the exact vectors in the folder, as `vectors.npy`."""

    write: Callable[[Path, Recipe], None]
    open: Callable[[Path, Recipe, Float[np.ndarray, "r d"]], Nearest]  # reads the recipe as it is
    recipe: Callable[[int], Recipe]  # for a number of rows
    ladders: Callable[[Recipe], Mapping[str, Sequence[int]]] = lambda _: {}
    target: float = 0.95  # recall@10 that the ladders are climbed for
    packages: tuple[str, ...] = ("jax", "numpy")  # whose versions decide the answers
    module: str = "jax"  # without which the kind is not here
    vectors: str = "vectors.npy"  # where the exact vectors are when all is written


@dataclasses.dataclass(frozen=True)
class Index:
    """A loaded index; `nearest` is the engine, `search` what to call."""

    kind: str
    rows: int
    dim: int
    fingerprint: str
    info: dict[str, Any]  # `index.json`: recipe, reason, versions, recall_at_10
    nearest: Nearest
    stored: Float[np.ndarray, "r d"]  # memory-mapped

    def search(
        self,
        queries: Float[np.ndarray, "q _d"],
        k: int,
        allowed: Bool[np.ndarray, " r"] | None = None,
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """Finds k gallery rows for each query: (cosine, row), best first, equal scores by row.

        Only rows that are `allowed` are found; where fewer than k are, the rest is row -1 with a
        score of nan. Rows are int32, or int64 in galleries that need it.

        Raises:
          ConfigError: k is not in 1..rows, the queries are not as wide as the index, or `allowed`
            is not one bool a row.
          DataError: a query is not a finite unit vector.
        """
        check_query(queries.shape[1], k, rows=self.rows, width=self.dim)
        check_vectors(queries, "queries")
        if allowed is not None and len(allowed) != self.rows:
            raise ConfigError(
                f"got {len(allowed)} allowed rows, expected true or false for each of {self.rows}; "
                "make them from the records of this index"
            )
        return self.nearest(np.ascontiguousarray(queries, np.float32), k, allowed)

    def vectors(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """Reads the exact vectors of some rows."""
        return np.asarray(self.stored[np.asarray(rows)])
