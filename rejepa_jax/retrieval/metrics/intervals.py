"""Bootstrap over queries: every metric is a function of means over queries, so resample these.

Resample i is drawn from `np.random.default_rng(i)`: intervals are reproducible, and paired between
systems that answered the same queries. A resample is a vector of how often each query was drawn,
and the means of all columns are one matrix product.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rejepa_jax.retrieval.metrics.blocks import blocks
from rejepa_jax.retrieval.metrics.catalogue import Metric
from rejepa_jax.retrieval.metrics.sets import Columns, Values
from rejepa_jax.types import ConfigError

RESAMPLES = 1000


class Score(NamedTuple):
    """A metric and its 95 % bootstrap interval over queries."""

    value: float
    low: float
    high: float


def means(columns: Columns) -> Columns:
    """Averages each column over the queries."""
    return {name: np.asarray(column.mean(axis=0)) for name, column in columns.items()}


def resampled_means(columns: Columns, resamples: int = RESAMPLES) -> Columns:
    """Averages each column over the queries of each resample: [s ...]."""
    count = len(next(iter(columns.values())))
    flat = np.concatenate([c.reshape(count, -1) for c in columns.values()], axis=1)
    parts = [
        _draws(count, part.start, part.stop) @ flat for part in blocks(resamples, count, 1 << 22)
    ]
    averages = np.concatenate(parts) / count
    out, place = {}, 0
    for name, column in columns.items():
        width = column[0].size
        out[name] = averages[:, place : place + width].reshape(resamples, *column.shape[1:])
        place += width
    return out


def scores(
    columns: Columns, metrics: Mapping[str, Metric], resamples: int = RESAMPLES
) -> dict[str, Score]:
    """Computes metrics, and the 2.5 and 97.5 percentile of each over resamples of the queries."""
    found, drawn = means(columns), resampled_means(columns, resamples)
    return {name: summary(metric.of(found), metric.of(drawn)) for name, metric in metrics.items()}


def differences(
    ours: Columns, theirs: Columns, metrics: Mapping[str, Metric], resamples: int = RESAMPLES
) -> dict[str, Score]:
    """Computes by how much our metrics exceed theirs; both systems answered the same queries.

    Resamples are shared, so that what makes a query hard for both cancels out.
    """
    if len(ours["precision_sets"]) != len(theirs["precision_sets"]):
        raise ConfigError(
            f"got {len(ours['precision_sets'])} queries and {len(theirs['precision_sets'])}, "
            "expected the same for both systems; score the queries that both answered"
        )
    found = means(ours), means(theirs)
    drawn = resampled_means(ours, resamples), resampled_means(theirs, resamples)
    return {
        name: summary(*(metric.of(mine) - metric.of(others) for mine, others in (found, drawn)))
        for name, metric in metrics.items()
    }


def summary(value: Values, drawn: Values) -> Score:
    """Returns a value with the 2.5 and 97.5 percentile of its resamples, NaN being none."""
    resamples = np.asarray(drawn)
    low, high = np.percentile(resamples[~np.isnan(resamples)], [2.5, 97.5])
    return Score(float(value), float(low), float(high))


@functools.lru_cache(maxsize=1)  # a small task's only block serves all systems that are compared
def _draws(queries: int, first: int, last: int) -> Float[np.ndarray, "s q"]:
    """Counts how often each query is in resamples `first` to `last` - 1."""
    counts = np.empty((last - first, queries))
    for place, seed in enumerate(range(first, last)):
        drawn = np.random.default_rng(seed).integers(0, queries, queries)
        counts[place] = np.bincount(drawn, minlength=queries)
    return counts
