"""Candidates in any order become an answer: exact scores, best first, equal scores by row."""

import numpy as np
from jaxtyping import Float, Int

from rejepa_jax.retrieval.brute.keys import WORST, pack, unpack
from rejepa_jax.retrieval.index.interface import Answer

BLOCK_BYTES = 1 << 26  # of candidates' vectors in memory


def rerank(
    queries: Float[np.ndarray, "q d"],
    candidates: Int[np.ndarray, "q c"],
    stored: Float[np.ndarray, "r d"],
    k: int,
) -> Answer:
    """Ranks candidates by the cosine of their exact vectors; row -1 is no candidate."""
    scores = np.empty(candidates.shape, np.float32)
    step = max(1, BLOCK_BYTES // (candidates.shape[1] * stored[:1].nbytes))
    for start in range(0, len(queries), step):
        window = slice(start, start + step)
        vectors = stored[candidates[window]]
        scores[window] = np.matmul(vectors, queries[window, :, None])[..., 0]
    return ordered(scores, candidates, k)


def ordered(scores: Float[np.ndarray, "q c"], rows: Int[np.ndarray, "q c"], k: int) -> Answer:
    """Sorts scored rows and keeps k; a score of nan, or row -1, is none."""
    keys = np.full(scores.shape, WORST, np.uint64)
    is_hit = ~np.isnan(scores) & (rows >= 0)
    keys[is_hit] = pack(scores[is_hit] + np.float32(0), rows[is_hit])
    keys.sort(axis=1)
    return unpack(keys[:, :k])
