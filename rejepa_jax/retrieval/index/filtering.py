"""Filters for engines that have none: more is fetched than asked for, or few rows are compared."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from rejepa_jax.retrieval.exact import top_k
from rejepa_jax.retrieval.index.interface import Answer, Nearest

FEW_ROWS = 20_000  # compared one by one in little time
FEW_SHARE = 0.05  # of all rows; below it, 20 times as many would have to be fetched
SLACK = 1.5


def with_filter(
    nearest: Callable[[np.ndarray, int], Answer], stored: Float[np.ndarray, "r d"]
) -> Nearest:
    """Lets an engine search among allowed rows only.

    The answer is exact where few rows are allowed, and for queries that the engine finds too few
    allowed rows for.
    """
    rows = len(stored)

    def search(queries: np.ndarray, k: int, allowed: Bool[np.ndarray, " r"] | None) -> Answer:
        if allowed is None:
            return nearest(queries, k)
        count = int(np.count_nonzero(allowed))
        if count <= max(FEW_ROWS, FEW_SHARE * rows):
            return top_k(queries, stored, k, allowed)
        fetched = min(rows, math.ceil(SLACK * k * rows / count))
        scores, found = nearest(queries, fetched)
        is_out = ~allowed[found] | (found < 0)
        order = np.argsort(is_out, axis=1, kind="stable")[:, :k]
        scores, found = (np.take_along_axis(array, order, axis=1) for array in (scores, found))
        short = np.take_along_axis(is_out, order, axis=1).any(axis=1)
        if short.any():
            scores[short], found[short] = top_k(queries[short], stored, k, allowed)
        return scores, found

    return search
