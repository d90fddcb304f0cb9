"""How good a ranking is: the F1@k variants kept apart by name, P@k, and rows to compare with.

A ranking is an integer array [q k] of gallery rows, best first, from any system. With q and r the
label sets of a query and of a result, p = |q∩r| / |r| and r' = |q∩r| / |q|; a share whose divisor
is zero counts 0, so an image without labels is never right. Three quantities share the name F1@k
in the literature: the F1 of the two grand means (CSMAE), the mean of the F1 of each pair (CR-JEPA),
and the information-retrieval one over all relevant images; the first two are here.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from rejepa_jax.types import ConfigError, DataError

Values = np.ndarray | np.floating


class PairScores(NamedTuple):
    """One score for each query and each of its results."""

    precision: Float[np.ndarray, "q k"]
    recall: Float[np.ndarray, "q k"]


class QueryScores(NamedTuple):
    """Means over the k results of each query: what metrics are made of and resamples draw."""

    precision: Float[np.ndarray, " q"]
    recall: Float[np.ndarray, " q"]
    f1: Float[np.ndarray, " q"]
    relevant: Float[np.ndarray, " q"]


class Score(NamedTuple):
    """A metric and its 95 % bootstrap interval over queries."""

    value: float
    low: float
    high: float


def pair_scores(
    query_labels: Bool[np.ndarray, "q _l"],
    gallery_labels: Bool[np.ndarray, "_r _m"],
    ranking: Int[np.ndarray, "_q k"],
) -> PairScores:
    """Scores each result by the labels it shares with its query.

    Raises:
      ConfigError: the three arrays do not belong together, or there is nothing to score.
      DataError: the ranking names a row that the gallery does not have.
    """
    _check_ranking(query_labels, gallery_labels, ranking)
    # One rank at a time: labels of all results at once would be q * k * l.
    shared = np.stack([(query_labels & gallery_labels[row]).sum(1) for row in ranking.T], axis=1)
    gallery_count = gallery_labels.sum(axis=1)[ranking]
    query_count = query_labels.sum(axis=1)[:, None]
    return PairScores(_ratio(shared, gallery_count), _ratio(shared, query_count))


def query_scores(pairs: PairScores) -> QueryScores:
    """Averages over the results of each query; a result is relevant if it shares any label."""
    f1 = _harmonic_mean(pairs.precision, pairs.recall)
    parts = (pairs.precision, pairs.recall, f1, pairs.precision > 0)
    return QueryScores(*(part.mean(axis=1) for part in parts))


def f1_micro_sets(scores: QueryScores) -> float:
    """Computes CSMAE's F1@k: harmonic mean of the grand means; never below `f1_pair_mean`."""
    return float(_harmonic_mean(scores.precision.mean(), scores.recall.mean()))


def f1_pair_mean(scores: QueryScores) -> float:
    """Computes CR-JEPA's F1@k: the mean of the F1 of each (query, result) pair."""
    return float(scores.f1.mean())


def precision_at_k(scores: QueryScores) -> float:
    """Computes the share of relevant results; with one label an image, all F1@k here equal it."""
    return float(scores.relevant.mean())


METRICS: dict[str, Callable[[QueryScores], float]] = {
    "f1_micro_sets": f1_micro_sets,
    "f1_pair_mean": f1_pair_mean,
    "precision_at_k": precision_at_k,
}


def bootstrap_interval(
    metric: Callable[[QueryScores], float], scores: QueryScores, resamples: int = 1000
) -> tuple[float, float]:
    """Draws queries with replacement, recomputes the metric, returns the 2.5 and 97.5 percentile.

    Resample i is drawn from `np.random.default_rng(i)`: intervals are reproducible and paired
    between systems that answered the same queries.
    """
    count = len(scores.precision)
    values = np.empty(resamples)
    for i in range(resamples):
        drawn = np.random.default_rng(i).integers(0, count, count)
        values[i] = metric(QueryScores(*(column[drawn] for column in scores)))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def evaluate(
    query_labels: Bool[np.ndarray, "q _l"],
    gallery_labels: Bool[np.ndarray, "_r _m"],
    ranking: Int[np.ndarray, "_q k"],
) -> dict[str, Score]:
    """Scores any system's ranking by every named metric; k is the width of the ranking."""
    scores = query_scores(pair_scores(query_labels, gallery_labels, ranking))
    return {
        name: Score(metric(scores), *bootstrap_interval(metric, scores))
        for name, metric in METRICS.items()
    }


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
    f1_sums = _ratio(2 * labels @ counts.T, sizes[:, None] + query_sizes[None, :])
    # Rounded, so that values that differ in their last bits still tie and the smaller row wins.
    expected = (f1_sums.sum(axis=1) / len(labels)).round(12)
    order = np.argsort(-expected, kind="stable")
    return np.tile(order[:k], (queries, 1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides counts, with 0 where the divisor is 0 (the part is 0 there too)."""
    return part / np.maximum(whole, 1)


def _harmonic_mean(a: Values, b: Values) -> Values:
    """Averages shares, with 0 where both are 0; the floor is far below any sum of two shares."""
    return 2 * a * b / np.maximum(a + b, 1e-300)


def _check_depth(k: int, rows: int) -> None:
    if not 0 < k <= rows:
        raise ConfigError(f"got k = {k}, expected 1 to {rows} (the rows of the gallery); change k")


def _check_ranking(
    query_labels: np.ndarray, gallery_labels: np.ndarray, ranking: np.ndarray
) -> None:
    if query_labels.shape[1] != gallery_labels.shape[1]:
        raise ConfigError(
            f"got {query_labels.shape[1]} label columns for the queries and "
            f"{gallery_labels.shape[1]} for the gallery, expected the same classes in the same "
            "order; build both from one schema"
        )
    if len(ranking) != len(query_labels):
        raise ConfigError(
            f"got a ranking of {len(ranking)} queries, expected {len(query_labels)} (the rows of "
            "the query labels); rank the queries that are scored"
        )
    if ranking.size == 0:
        raise ConfigError(f"got a ranking of shape {ranking.shape}, expected q > 0 and k > 0")
    outside = (ranking < 0) | (ranking >= len(gallery_labels))
    if outside.any():
        query, rank = np.argwhere(outside)[0]
        raise DataError(
            f"ranking of query {query}: got gallery row {ranking[query, rank]} at rank {rank}, "
            f"expected 0 to {len(gallery_labels) - 1}; rank and score with the same gallery"
        )
