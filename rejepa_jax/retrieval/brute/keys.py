"""A score and its row as one number, which sorts fast, and equal scores by row.

The high half holds the score's bits, turned so that better is smaller; the low half holds the row.
The worst number reads as score nan and row -1.
"""

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt64

WORST = 2**64 - 1
MAGNITUDE = np.uint32(0x7FFFFFFF)


def pack(
    scores: Float32[np.ndarray, " c"], rows: Int[np.ndarray, " c"]
) -> UInt64[np.ndarray, " c"]:
    """Makes keys of scores, none of them nan or -0.0, and rows below 2^32."""
    bits = scores.view(np.uint32)
    falling = np.where(bits > MAGNITUDE, bits, ~bits & MAGNITUDE)
    return falling.astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)


def unpack(
    keys: UInt64[np.ndarray, "*shape"],
) -> tuple[Float32[np.ndarray, "*shape"], Int32[np.ndarray, "*shape"]]:
    """Makes scores and rows of keys."""
    falling = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(falling > MAGNITUDE, falling, ~falling & MAGNITUDE)
    return bits.view(np.float32), keys.astype(np.uint32).view(np.int32)


def merge(
    best: UInt64[np.ndarray, "q k"], query: Int[np.ndarray, " c"], keys: UInt64[np.ndarray, " c"]
) -> UInt64[np.ndarray, "q k"]:
    """Returns the k best of `best` and of more keys, which are given with their queries."""
    if not len(keys):
        return best
    order = np.argsort(query.astype(np.uint16), kind="stable")  # short integers sort by radix
    query, keys = query[order], keys[order]
    counts = np.bincount(query, minlength=len(best))
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    k = best.shape[1]
    joined = np.full((len(best), k + int(counts.max())), WORST, np.uint64)
    joined[:, :k] = best
    joined[query, k + place] = keys
    joined.sort(axis=1)
    return joined[:, :k]
