"""The forms in which a descriptor is compared; each ends in rows of length 1, ranked by cosine."""

import numpy as np
from jaxtyping import Float

WHITENED_DIRECTIONS = 128
FLOOR = 0.01  # ε of the whitening: a hundredth of the variance of a standardised dimension

Pair = tuple[Float[np.ndarray, "q _d"], Float[np.ndarray, "r _d"]]


def forms(queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]) -> dict[str, Pair]:
    """Returns queries and gallery in every form, by name; whatever is fitted sees the gallery."""
    return {
        "plain": (unit(queries), unit(gallery)),
        "z-scored": (z_scored(queries, gallery), z_scored(gallery, gallery)),
        "whitened": whitened(queries, gallery),
    }


def unit(vectors: Float[np.ndarray, "r d"]) -> Float[np.ndarray, "r d"]:
    """Scales rows to length 1."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)


def z_scored(
    vectors: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> Float[np.ndarray, "q d"]:
    """Standardises every dimension with the gallery's mean and spread, then scales to length 1."""
    return unit(_standardised(vectors, gallery))


def whitened(queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]) -> Pair:
    """Makes the strongest directions of the gallery equally strong (PCA), then scales to length 1.

    With z the standardised descriptor, before it is scaled, and λ_i, v_i the eigenvalues and
    vectors of the gallery's mean of z zᵀ (its correlations), component i is
    v_iᵀ z / sqrt(λ_i + ε), ε = 0.01, for the min(d, 128) largest λ_i.
    """
    known = _standardised(gallery, gallery)
    strength, directions = np.linalg.eigh(known.T @ known / len(known))  # weakest first
    axes = (directions / np.sqrt(np.maximum(strength, 0) + FLOOR))[:, -WHITENED_DIRECTIONS:]
    return unit(_standardised(queries, gallery) @ axes), unit(known @ axes)


def _standardised(
    vectors: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> Float[np.ndarray, "q d"]:
    spread = gallery.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1)
    return (vectors - gallery.mean(axis=0, dtype=np.float64)) / scale
