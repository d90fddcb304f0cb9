"""Labels, rankings and places to score, drawn so that every oddity occurs."""

import numpy as np

from rejepa_jax.retrieval.metrics.evaluating import evaluate
from rejepa_jax.retrieval.metrics.excluded import same

RULES = ("any_overlap", "exact_set", "jaccard>=0.5", "jaccard>=0.3")


def random_case(seed, queries=23, rows=57, classes=7, k=9, density=0.25):
    """Multi-label sets, a tenth of them empty, some hits missing, some rows alike."""
    rng = np.random.default_rng(seed)
    query_labels = (rng.random((queries, classes)) < density) & (rng.random((queries, 1)) < 0.9)
    gallery_labels = (rng.random((rows, classes)) < density) & (rng.random((rows, 1)) < 0.9)
    ranking = np.argsort(rng.random((queries, rows)), axis=1)[:, :k]
    missing = rng.integers(0, k + 1, queries) * (rng.random(queries) < 0.2)
    ranking[np.arange(k) >= k - missing[:, None]] = -1
    return query_labels, gallery_labels, ranking


def values(case, rules=("any_overlap",)):
    return {name: score.value for name, score in evaluate(*case, rules).items()}


def groups(queries, rows, seed=0):
    """Some places of several images each, some unknown; ids of which some are on both sides."""
    rng = np.random.default_rng(seed)
    places = [[f"p{n}" if n else "" for n in rng.integers(0, 9, c)] for c in (queries, rows)]
    ids = [f"i{n}" for n in range(queries)], [f"i{n}" for n in range(10, 10 + rows)]
    return same(tuple(places), ids)


def excluded_rows(excluded):
    return [
        [
            row
            for row, other in enumerate(excluded.gallery_groups)
            if any(a == b and a >= 0 for a, b in zip(ours, other, strict=True))
        ]
        for ours in excluded.query_groups
    ]
