"""ANMRR of MPEG-7: how far down the right hits stand, 0 for a perfect ranking, 1 for none found.

For a query with NG right images, K = min(4 NG, 2 GTM), GTM the largest NG of all queries. A right
image at rank <= K counts its rank, any other a penalty. With AVR the mean of these,
NMRR = (AVR - (1 + NG) / 2) / (penalty - (1 + NG) / 2), and ANMRR is its mean over queries.
MPEG-7's penalty is 1.25 K; many programs take K + 1. A query with NG = 0 counts 1.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

from rejepa_jax.retrieval.metrics.ranked import places
from rejepa_jax.retrieval.metrics.sets import Columns
from rejepa_jax.types import ConfigError

PENALTIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "anmrr": lambda depth: 1.25 * depth,  # MPEG-7
    "anmrr_k_plus_1": lambda depth: depth + 1.0,
}


def anmrr_depth(total: Int[np.ndarray, " q"], largest: int) -> Int[np.ndarray, " q"]:
    """Returns K of each query."""
    return np.minimum(4 * total, 2 * largest)


def anmrr_columns(
    right: Bool[np.ndarray, "q n"], total: Int[np.ndarray, " q"], largest: int, rows: int
) -> Columns:
    """Returns the NMRR of each query by penalty, in a gallery of `rows` images.

    Raises:
        ConfigError: a ranking ends before rank K and before the gallery does.
    """
    depth = anmrr_depth(total, largest)
    needed = min(int(depth.max(initial=0)), rows)
    if right.shape[1] < needed:
        raise ConfigError(
            f"got rankings of {right.shape[1]} hits, expected {needed} for ANMRR (K = min(4 NG, "
            "2 GTM)); rank deeper"
        )
    query, rank = places(right)
    is_within = rank < depth[query]
    ranks = np.bincount(query[is_within], rank[is_within] + 1, minlength=len(right))
    missed = total - np.bincount(query[is_within], minlength=len(right))
    best = (1 + total) / 2
    columns = {}
    for name, penalty in PENALTIES.items():
        average = (ranks + missed * penalty(depth)) / np.maximum(total, 1)
        worst = np.where(total > 0, penalty(depth), 2)  # no division by zero where NG is 0
        columns[name] = np.where(total > 0, (average - best) / (worst - best), 1.0)
    return columns
