"""Descriptors that anyone has for free: what a trained encoder must beat to mean something."""

import numpy as np
from jaxtyping import Float, Shaped

from rejepa_jax.data import sensors


def image_statistics(
    image: Shaped[np.ndarray, "b h w c"], sensor: str
) -> Float[np.ndarray, "b 4*c"]:
    """Returns mean, standard deviation, minimum and maximum of each band's known pixels."""
    unknown = sensors.nodata(sensor)
    pixels = image.astype(np.float64).reshape(len(image), -1, image.shape[-1])
    hidden = np.zeros(pixels.shape, bool) if unknown is None else pixels == unknown
    hidden &= ~hidden.all(axis=1, keepdims=True)  # a band without a known pixel stays as it is
    known = np.ma.masked_array(pixels, hidden)
    parts = [known.mean(1), known.std(1), known.min(1), known.max(1)]
    return np.concatenate([np.ma.getdata(part) for part in parts], axis=1)


def unit(vectors: Float[np.ndarray, "r d"]) -> Float[np.ndarray, "r d"]:
    """Scales rows to length 1."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)


def z_scored(
    vectors: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "r d"]
) -> Float[np.ndarray, "q d"]:
    """Standardises every dimension with the gallery's mean and spread, then scales to length 1."""
    spread = gallery.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 0, spread, 1)
    return unit((vectors - gallery.mean(axis=0, dtype=np.float64)) / scale)
