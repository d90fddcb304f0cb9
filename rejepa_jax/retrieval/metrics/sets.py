"""How alike the label sets of query and hits are: F1 as in CSMAE and as in CR-JEPA, Jaccard.

With q and r the label sets of a query and of one of its k hits, p = |q∩r| / |r| and
r' = |q∩r| / |q|. A share whose divisor is zero counts 0; a hit that is missing counts as an image
without labels.
"""

import numpy as np
from jaxtyping import Bool, Int

from rejepa_jax.retrieval.metrics.relevance import Overlap, jaccard, overlap, pack

Columns = dict[str, np.ndarray]  # by name: one value a query, or one a query and class
Values = np.ndarray | np.floating


def set_columns(pairs: Overlap, classes: int) -> Columns:
    """Averages over the hits of each query [q k]; `hamming` is |q△r| / classes, a distance."""
    precision = ratio(pairs.shared, pairs.hit_size)
    recall = ratio(pairs.shared, pairs.query_size)
    apart = pairs.query_size + pairs.hit_size - 2 * pairs.shared
    parts = {
        "precision_sets": precision,
        "recall_sets": recall,
        "f1_pair_mean": harmonic_mean(precision, recall),
        "jaccard": jaccard(pairs),
        "hamming": apart / max(classes, 1),
    }
    return {name: part.mean(axis=1) for name, part in parts.items()}


def f1_micro_sets(means: Columns) -> Values:
    """Computes CSMAE's F1@k, the harmonic mean of the two grand means (over hits, then queries).

    It is never below `f1_pair_mean`, because the harmonic mean is concave.
    """
    return harmonic_mean(means["precision_sets"], means["recall_sets"])


def f1_of_ranking(
    query_labels: Bool[np.ndarray, "q l"],
    gallery_labels: Bool[np.ndarray, "r l"],
    ranking: Int[np.ndarray, "q k"],
) -> float:
    """Computes only the f1_micro_sets of a ranking, where nothing else is asked for."""
    pairs = overlap(pack(query_labels), pack(gallery_labels), ranking)
    columns = set_columns(pairs, query_labels.shape[1])
    return float(
        f1_micro_sets({name: np.asarray(column.mean()) for name, column in columns.items()})
    )


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides counts, with 0 where the divisor is 0 (the part is 0 there too)."""
    return part / np.maximum(whole, 1)


def harmonic_mean(a: Values, b: Values) -> Values:
    """Averages shares, with 0 where both are 0; the floor is far below any sum of two shares."""
    return 2 * a * b / np.maximum(a + b, 1e-300)
