"""Rankings that look at nothing: what any figure has to be held against."""

import numpy as np
from jaxtyping import Bool, Int

from rejepa_jax.retrieval.metrics.sets import ratio
from rejepa_jax.types import ConfigError


def random_ranking(queries: int, rows: int, k: int, seed: int) -> Int[np.ndarray, "q k"]:
    """Draws k different gallery rows for each query, every ordered choice equally likely.

    Floyd's sampling for all queries at once: k draws a query, however large the gallery is.
    """
    _check_depth(k, rows)
    rng = np.random.default_rng(seed)
    chosen = np.empty((queries, k), np.int64)
    for i, last in enumerate(range(rows - k, rows)):
        drawn = rng.integers(0, last + 1, queries)
        taken = (chosen[:, :i] == drawn[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, last, drawn)
    return rng.permuted(chosen, axis=1)


def label_prior_ranking(
    gallery_labels: Bool[np.ndarray, "r l"], queries: int, k: int
) -> Int[np.ndarray, "q k"]:
    """Answers every query with the k rows of highest expected pair F1; ties go to the smaller row.

    What can be had without looking at the query: the expectation is over a query drawn from the
    gallery's own labels.
    """
    _check_depth(k, len(gallery_labels))
    labels = gallery_labels.astype(np.float64)
    sizes = gallery_labels.sum(axis=1)
    # F1 = 2 |q∩r| / (|q| + |r|): queries with equally many labels share the divisor, so that their
    # labels can be counted first, and no row meets every row.
    query_sizes = np.unique(sizes)
    counts = np.stack([labels[sizes == size].sum(axis=0) for size in query_sizes])
    f1_sums = ratio(2 * labels @ counts.T, sizes[:, None] + query_sizes[None, :])
    # Rounded, so that values that differ in their last bits still tie and the smaller row wins.
    expected = (f1_sums.sum(axis=1) / len(labels)).round(12)
    order = np.argsort(-expected, kind="stable")
    return np.tile(order[:k], (queries, 1))


def _check_depth(k: int, rows: int) -> None:
    if not 0 < k <= rows:
        raise ConfigError(f"got k = {k}, expected 1 to {rows} (the rows of the gallery); change k")
