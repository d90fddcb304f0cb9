"""The forms in which a descriptor is compared; each ends in rows of length 1, ranked by cosine.

What is fitted sees the gallery only, and no form holds a float64 copy of it.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

from rejepa_jax.types import DataError

WHITENED_DIRECTIONS = 128
FLOOR = 0.01  # ε of the whitening: a hundredth of the variance of a standardised dimension
CONSTANT = 1e-6  # the largest difference between descriptors that are all the same
ROWS = 8192  # at a time

Pair = tuple[Float[np.ndarray, "q _d"], Float[np.ndarray, "r _d"]]
Rows = Float[np.ndarray, "_r _d"]


def forms(queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]) -> dict[str, Pair]:
    """Returns queries and gallery in every form, by name."""
    return dict(each_form(queries, gallery))


def each_form(
    queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> Iterator[tuple[str, Pair]]:
    """Yields name, and queries and gallery, of one form after the other: one is in memory."""
    yield "plain", (unit(queries), unit(gallery))
    yield "z-scored", (z_scored(queries, gallery), z_scored(gallery, gallery))
    yield "whitened", whitened(queries, gallery)


def is_constant(vectors: Rows) -> bool:
    """Whether two or more descriptors are all the same: what is found follows from the order.

    So it is where an encoder sees no token, or has collapsed to a point.
    """
    blocks = (vectors[start : start + ROWS] for start in range(0, len(vectors), ROWS))
    return len(vectors) > 1 and all(
        np.abs(block - vectors[:1]).max(initial=0) <= CONSTANT for block in blocks
    )


def check_descriptors(name: str, vectors: Rows) -> None:
    """Refuses descriptors that no ranking can come from.

    Raises:
        DataError: one is not finite, or all are the same.
    """
    sums = np.einsum("rd->r", vectors)  # finite only where every number is
    if (bad := ~np.isfinite(sums)).any():
        raise DataError(
            f"{name}: got {bad.sum()} of {len(vectors)} descriptors that are not finite, first in "
            f"rows {np.flatnonzero(bad)[:5].tolist()}, expected numbers; look at these images and "
            "at the encoder"
        )
    if is_constant(vectors):
        raise DataError(
            f"{name}: got the same descriptor for all {len(vectors)} images, expected different "
            "ones; the encoder has collapsed or sees no patch: train it otherwise (docs/health.md)"
        )


def unit(vectors: Float[np.ndarray, "r d"]) -> Float[np.ndarray, "r d"]:
    """Scales rows to length 1."""
    return _by_block(vectors, lambda rows: rows, vectors.shape[1])


def z_scored(
    vectors: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> Float[np.ndarray, "q d"]:
    """Standardises every dimension with the gallery's mean and spread, then scales to length 1."""
    return _by_block(vectors, _standardise(gallery), vectors.shape[1])


def whitened(queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]) -> Pair:
    """Makes the strongest directions of the gallery equally strong (PCA), then scales to length 1.

    With z the standardised descriptor, before it is scaled, and λ_i, v_i the eigenvalues and
    vectors of the gallery's mean of z zᵀ (its correlations), component i is
    v_iᵀ z / sqrt(λ_i + ε), ε = 0.01, for the min(d, 128) largest λ_i.
    """
    standardise = _standardise(gallery)
    known = map(standardise, _blocks(gallery))
    correlations = sum(rows.T @ rows for rows in known) / len(gallery)
    strength, directions = np.linalg.eigh(correlations)  # weakest first
    axes = (directions / np.sqrt(np.maximum(strength, 0) + FLOOR))[:, -WHITENED_DIRECTIONS:]

    def turn(rows: Rows) -> Rows:
        return standardise(rows) @ axes

    return _by_block(queries, turn, axes.shape[1]), _by_block(gallery, turn, axes.shape[1])


def _standardise(gallery: Rows) -> Callable[[Rows], Rows]:
    mean = gallery.mean(axis=0, dtype=np.float64)
    squares = sum(np.square(rows - mean).sum(axis=0) for rows in _blocks(gallery))
    spread = np.sqrt(squares / len(gallery))
    scale = np.where(spread > 0, spread, 1)
    return lambda rows: (rows - mean) / scale


def _blocks(vectors: Rows) -> Iterator[Rows]:
    return (vectors[start : start + ROWS] for start in range(0, len(vectors), ROWS))


def _by_block(vectors: Rows, change: Callable[[Rows], Rows], width: int) -> Rows:
    """Returns changed rows, each of length 1."""
    out = np.empty((len(vectors), width), np.float32)
    for start in range(0, len(vectors), ROWS):
        rows = change(vectors[start : start + ROWS])
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        out[start : start + ROWS] = rows / np.maximum(length, 1e-12)
    return out
