"""How many of the true neighbours an index finds, on rows that its settings were not chosen on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from rejepa_jax.retrieval.exact import top_k
from rejepa_jax.retrieval.index.interface import Nearest

K = 10
HELD_OUT = 1000
TUNING = 500


class Sample(NamedTuple):
    """Gallery rows as queries, and the true neighbours of each; none is its own."""

    queries: Float[np.ndarray, "q d"]
    own: Int[np.ndarray, " q"]
    true: Int[np.ndarray, "q k"]

    def recall(self, nearest: Nearest) -> float:
        """Returns the share of the true neighbours that are found."""
        k = self.true.shape[1]
        if k == 0:
            return 1.0
        found = _without_self(nearest(self.queries, k + 1, None)[1], self.own, k)
        return float((found[:, :, None] == self.true[:, None, :]).any(axis=1).mean())


def samples(vectors: Float[np.ndarray, "r d"]) -> tuple[Sample, Sample]:
    """Draws rows to choose settings on, and others to measure recall@10 on."""
    rows = len(vectors)
    k = min(K, rows - 1)
    drawn = np.random.default_rng(0).permutation(rows)[: HELD_OUT + TUNING]
    queries = np.ascontiguousarray(vectors[drawn], np.float32)
    true = _without_self(top_k(queries, vectors, k + 1)[1], drawn, k)
    whole = Sample(queries, drawn, true)
    first = min(TUNING, len(drawn) // 3)
    tuning, held_out = (Sample(*(a[w] for a in whole)) for w in (slice(first), slice(first, None)))
    return tuning, held_out


def _without_self(rows: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Drops each query's own row from its k + 1 neighbours, or the last where it is not found."""
    is_own = rows == own[:, None]
    order = np.argsort(is_own, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1)
