"""Each class on its own: a hit is right for a class of the query if it has that class too.

Macro means are over the classes that any query has; with one label an image these are the usual
macro averages.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from rejepa_jax.retrieval.metrics.sets import Columns, Values, ratio

MEASURES = ("precision_at_k", "recall_at_k", "map_at_k")


def class_columns(
    query_labels: Bool[np.ndarray, "q l"],
    gallery_labels: Bool[np.ndarray, "r l"],
    ranking: Int[np.ndarray, "q k"],
    total: Int[np.ndarray, "#q l"],
) -> Columns:
    """Scores [q l] the hits of each query for each class, 0 where the query has not that class.

    `total` counts the gallery's images of each class. The divisor of average precision is
    min(k, total).
    """
    k = ranking.shape[1]
    found = np.zeros(query_labels.shape)
    sums = np.zeros(query_labels.shape)
    for rank, rows in enumerate(ranking.T, 1):  # q * l at a time, not q * k * l
        right = gallery_labels[rows] & query_labels & (rows >= 0)[:, None]
        found += right
        sums += np.where(right, found / rank, 0)
    return {
        "has_class": query_labels.astype(np.float64),
        "class_precision_at_k": found / k,
        "class_recall_at_k": ratio(found, total),
        "class_map_at_k": ratio(sums, np.minimum(k, total)),
    }


def by_class(means: Columns, measure: str) -> Float[np.ndarray, "*s l"]:
    """Returns a measure's mean over the queries of each class; NaN for a class of none."""
    share = means["has_class"]
    return means[f"class_{measure}"] / np.where(share > 0, share, np.nan)


def macro(means: Columns, measure: str) -> Values:
    """Returns the mean over the classes that any query has, 0 where there is none."""
    values = by_class(means, measure)
    is_there = ~np.isnan(values)
    return np.where(is_there, values, 0).sum(axis=-1) / np.maximum(is_there.sum(axis=-1), 1)
