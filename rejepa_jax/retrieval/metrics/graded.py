"""Metrics for which a hit is worth the more, the more labels it shares with the query.

ACG@k is the mean number of shared labels; WAP@k averages ACG@i over the ranks i <= k of hits that
share any (Zhao et al. 2015, arXiv 1501.06272). DCG@k sums gain / log2(rank + 1); nDCG@k divides by
the DCG@k of the best ranking of the same gallery. The gain is the number shared, or 2^shared - 1:
two names.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from rejepa_jax.retrieval.metrics.sets import Columns, ratio

Gain = Callable[[np.ndarray], np.ndarray]


def linear(shared: np.ndarray) -> np.ndarray:
    """The number of shared labels is the gain."""
    return shared.astype(np.float64)


def exponential(shared: np.ndarray) -> np.ndarray:
    """The gain is 2^shared - 1 (Burges et al. 2005)."""
    return np.exp2(shared) - 1


GAINS: dict[str, Gain] = {"": linear, "_exp": exponential}


def graded_columns(
    shared: Int[np.ndarray, "q n"], gains: Int[np.ndarray, "q g"], ending: str = "_at_k"
) -> Columns:
    """Scores the first n hits; `gains` counts the gallery's images that share 0, 1, ... labels."""
    ranks, discounts = _ranks(shared.shape[1])
    acg = np.cumsum(shared, axis=1) / ranks
    is_right = shared > 0
    wap = ratio((acg * is_right).sum(axis=1), is_right.sum(axis=1))
    columns = {f"acg{ending}": acg[:, -1], f"wmap{ending}": wap}
    for name, gain in GAINS.items():
        worth = gain(np.arange(gains.shape[1]))
        best = _ideal(gains, worth, discounts)
        columns[f"ndcg{name}{ending}"] = worth[shared] @ discounts / np.where(best > 0, best, 1)
    return columns


def _ideal(
    gains: Int[np.ndarray, "q g"],
    worth: Float[np.ndarray, " g"],
    discounts: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " q"]:
    """Returns the DCG of the gallery in its best order, from counts of each number shared."""
    up_to = np.append(0, np.cumsum(discounts))  # sum of the discounts of the first i ranks
    best_first = gains[:, :0:-1]  # of those that share any
    ends = np.minimum(np.cumsum(best_first, axis=1), len(discounts))
    starts = np.concatenate([np.zeros_like(ends[:, :1]), ends[:, :-1]], axis=1)
    return (up_to[ends] - up_to[starts]) @ worth[:0:-1]


@functools.lru_cache(maxsize=2)  # of a whole gallery they are the same for every block
def _ranks(count: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns the ranks from 1, and their discounts."""
    ranks = np.arange(1, count + 1)
    return ranks, 1 / np.log2(ranks + 1)
