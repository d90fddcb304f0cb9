"""How often each colour occurs in an image, and each direction of an edge; hard to beat."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from rejepa_jax.data.preprocess import SensorInput, standardise

LEVELS = 8  # of a band, between REACH standard deviations below and above its mean
REACH = 2.0
JOINT_BANDS = 3  # up to so many are counted together, more of them each by itself
DIRECTIONS = 9  # of a gradient, without its sign
CELLS = 4  # along a side, for the gradients


@partial(jax.jit, static_argnames="given")
def colour_and_gradient_histogram(
    image: Shaped[Array, "b h w c"] | Shaped[np.ndarray, "b h w c"], given: SensorInput
) -> Float[Array, "b _"]:
    """Returns square roots of shares of levels, then of gradients by cell and direction.

    Levels of up to three bands are counted jointly (8 × 8 × 8 colours), of more bands each by
    itself. Gradients are those of the bands' mean, counted by their size. Unknown pixels count as
    the band's mean.
    """

    def describe(one: Shaped[Array, "h w c"]) -> Float[Array, " _"]:
        pixels = standardise(one[None], given)[0]
        counts = jnp.concatenate([_levels(pixels), _gradients(pixels.mean(-1))])
        return jnp.sqrt(counts)

    return jax.lax.map(describe, jnp.asarray(image))


def _levels(pixels: Float[Array, "h w c"]) -> Float[Array, " _"]:
    bands = pixels.shape[-1]
    level = jnp.floor((pixels + REACH) * (LEVELS / (2 * REACH))).astype(jnp.int32)
    level = level.clip(0, LEVELS - 1)
    if bands <= JOINT_BANDS:
        place, length = (level * LEVELS ** jnp.arange(bands)[None, None]).sum(-1), LEVELS**bands
    else:
        place, length = level + LEVELS * jnp.arange(bands)[None, None], LEVELS * bands
    return jnp.bincount(place.ravel(), length=length) / place.size


def _gradients(grey: Float[Array, "h w"]) -> Float[Array, " _"]:
    h, w = grey.shape
    down, right = jnp.gradient(grey)
    turn = jnp.arctan2(down, right) % jnp.pi / jnp.pi
    direction = (turn * DIRECTIONS).astype(jnp.int32).clip(0, DIRECTIONS - 1)
    row, column = (jnp.arange(size) * CELLS // size for size in (h, w))
    place = (row[:, None] * CELLS + column[None, :]) * DIRECTIONS + direction
    size = jnp.hypot(down, right)
    return jnp.bincount(place.ravel(), size.ravel(), length=CELLS**2 * DIRECTIONS) / grey.size
