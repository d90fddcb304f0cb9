"""Filters that nobody trained, and how strongly an image answers them on the average.

Both kinds of MOSAIKS (Rolf et al. 2021): random Gaussian filters, and random patches of the images
themselves after ZCA whitening (Coates & Ng 2012). They see standardised pixels at half size, so a
filter spans 6 × 6 pixels of the image. A response is counted as far as it exceeds half its usual
spread, up and down apart, and averaged over the image.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rejepa_jax.data.preprocess import SensorInput, standardise

SIDE = 3  # pixels of a filter
FILTERS = 256
THRESHOLD = 0.5  # of a response, in standard deviations
WHITENING_FLOOR = 0.02  # in variances of a standardised pixel; about 1e-3 where white is 1


class FilterBank(NamedTuple):
    """Convolution kernels, and what is added to their responses."""

    kernels: Float[Array, "s s c f"]
    offsets: Float[Array, " f"]


def gaussian_bank(bands: int, seed: int) -> FilterBank:
    """Draws kernels whose response has variance 1 to noise, and on the average to any texture."""
    shape = (SIDE, SIDE, bands, FILTERS)
    kernels = np.random.default_rng(seed).normal(0, (SIDE**2 * bands) ** -0.5, shape)
    return FilterBank(jnp.asarray(kernels, jnp.float32), jnp.zeros(FILTERS))


def zca_bank(patches: Float[np.ndarray, "p s s c"], seed: int) -> FilterBank:
    """Makes a filter of each of 256 random patches: both it and what it meets are whitened.

    With mean m and covariance V diag(λ) Vᵀ of the patches, W = V diag((λ + ε)^-½) Vᵀ, ε = 0.02;
    a filter is the unit vector u of W (p - m), its response to a patch x is uᵀ W (x - m).
    """
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    mean = flat.mean(0)
    strength, directions = np.linalg.eigh(np.cov(flat - mean, rowvar=False))
    gain = 1 / np.sqrt(np.maximum(strength, 0) + WHITENING_FLOOR)
    whiten = (directions * gain) @ directions.T
    chosen = np.random.default_rng(seed).choice(flat, FILTERS, replace=len(flat) < FILTERS)
    filters = (chosen - mean) @ whiten
    filters /= np.maximum(np.linalg.norm(filters, axis=1, keepdims=True), 1e-12)
    kernels = whiten @ filters.T
    offsets = jnp.asarray(-(mean @ kernels), jnp.float32)
    kernels = kernels.reshape(*patches.shape[1:], FILTERS)
    return FilterBank(jnp.asarray(kernels, jnp.float32), offsets)


def draw_patches(
    images: Float[np.ndarray, "b h w c"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "_ 3 3 c"]:
    """Cuts `count` patches out of each image, anywhere."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    image = np.repeat(np.arange(len(images)), count)
    row, column = (rng.integers(size, size=len(image)) for size in windows.shape[1:3])
    return windows[image, row, column].transpose(0, 2, 3, 1)


@partial(jax.jit, static_argnames="given")
def half_size(
    image: Shaped[Array, "b h w c"] | Shaped[np.ndarray, "b h w c"], given: SensorInput
) -> Float[Array, "b _ _ c"]:
    """Returns standardised pixels, 2 × 2 of them averaged where the image then still fits filters.

    Unknown pixels count as the band's mean.
    """
    pixels = standardise(jnp.asarray(image), given)
    b, h, w, c = pixels.shape
    if min(h, w) >= 2 * SIDE:
        even = pixels[:, : h // 2 * 2, : w // 2 * 2]
        return even.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
    missing = [(0, max(0, SIDE - size)) for size in (h, w)]
    return jnp.pad(pixels, ((0, 0), *missing, (0, 0)), mode="edge")


@partial(jax.jit, static_argnames="given")
def mean_responses(
    image: Shaped[Array, "b h w c"] | Shaped[np.ndarray, "b h w c"],
    bank: FilterBank,
    given: SensorInput,
) -> Float[Array, "b _"]:
    """Returns each filter's mean excess above the threshold, then those below its negative."""

    def describe(one: Shaped[Array, "h w c"]) -> Float[Array, " _"]:
        response = jax.lax.conv_general_dilated(
            half_size(one[None], given),
            bank.kernels,
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        response += bank.offsets[None, None, None]
        signs = [jax.nn.relu(sign * response - THRESHOLD).mean((0, 1, 2)) for sign in (1, -1)]
        return jnp.concatenate(signs)

    return jax.lax.map(describe, jnp.asarray(image))  # one by one: responses are many and large
