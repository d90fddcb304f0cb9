"""Descriptors that anyone has for free: what a trained encoder must beat to mean something."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


@partial(jax.jit, static_argnames="nodata")
def image_statistics(
    image: Shaped[Array, "b h w c"] | Shaped[np.ndarray, "b h w c"], nodata: float | None
) -> Float[Array, "b 4*c"]:
    """Returns mean, standard deviation, minimum and maximum of each band's known pixels.

    Pixels of the value `nodata` are unknown; a band without a known pixel counts as zeros.
    """
    pixels = image.astype(jnp.float32)
    known = jnp.ones(pixels.shape, bool) if nodata is None else pixels != nodata
    mean = pixels.mean((1, 2), where=known)
    std = pixels.std((1, 2), where=known)
    low = pixels.min((1, 2), where=known, initial=jnp.inf)
    high = pixels.max((1, 2), where=known, initial=-jnp.inf)
    return jnp.nan_to_num(jnp.concatenate([mean, std, low, high], axis=1), posinf=0, neginf=0)


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
