"""Rectangular blocks of a token grid: how large, where, and as index lists of static length.

The law is I-JEPA's (Assran et al. 2023, appendix; V-JEPA the same in space): one size a step for
all images and blocks, area and aspect ratio drawn uniformly, any position. `faithful` keeps three
quirks of the published code: area and ratio come from one random number; a block is smaller than
the grid and never touches its last row or column; too long an index list loses its end, the bottom
of the image.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

RASTER = 1 << 16  # random numbers tried for the extremes: sides change at some tens of them


@dataclasses.dataclass(frozen=True)
class Law:
    """What a block's size depends on."""

    grid_size: int
    scale: tuple[float, float]  # area, as a share of the grid
    aspect: tuple[float, float]  # height / width
    faithful: bool

    def size(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Returns height and width for two random numbers in [0, 1)."""
        low, high = self.scale
        area = jnp.floor(self.grid_size**2 * (low + first * (high - low)))
        low, high = self.aspect
        ratio = low + (first if self.faithful else second) * (high - low)
        limit = self.grid_size - self.faithful
        sides = (jnp.sqrt(area * ratio), jnp.sqrt(area / ratio))
        height, width = (jnp.clip(jnp.round(side), 1, limit).astype(jnp.int32) for side in sides)
        return height, width

    @functools.cached_property
    def areas(self) -> np.ndarray:
        """Tokens of blocks, the fewest and the most among them.

        Both sides grow with the area, so that only its ends count, over a fine raster of ratios;
        where one number gives area and ratio, over a raster of it.
        """
        with jax.ensure_compile_time_eval():
            raster = jnp.linspace(0, 1, RASTER)
            ends = (raster,) if self.faithful else (jnp.zeros(RASTER), jnp.ones(RASTER))
            sides = [self.size(first, raster) for first in ends]
            return np.stack([height * width for height, width in sides])

    @property
    def largest(self) -> int:
        """The most tokens that a block has."""
        return int(self.areas.max())

    @property
    def smallest(self) -> int:
        """The fewest tokens that a block has."""
        return int(self.areas.min())


def draw(key: Key[Array, ""], batch: int, count: int, law: Law) -> Bool[Array, "b m n"]:
    """Returns, for each image, `count` blocks of one size as maps of the grid."""
    size_key, place_key = jax.random.split(key)
    sides = jnp.stack(law.size(*jax.random.uniform(size_key, (2,))))
    room = law.grid_size - sides + (not law.faithful)  # places a side has, along its axis
    share = jax.random.uniform(place_key, (batch, count, 2))
    start = jnp.floor(share * room[None, None]).astype(jnp.int32)
    line = jnp.arange(law.grid_size)[None, None, None]
    inside = (line >= start[..., None]) & (line < (start + sides[None, None])[..., None])
    rows, columns = inside[:, :, 0, :, None], inside[:, :, 1, None, :]
    return (rows & columns).reshape(batch, count, law.grid_size**2)


def pack(
    chosen: Bool[Array, "*b n"], length: int, key: Key[Array, ""] | None = None
) -> tuple[Int[Array, "*b k"], Bool[Array, "*b k"]]:
    """Turns maps into index lists of one length, and says which entries are chosen tokens.

    Where more tokens are chosen than fit, a random choice of them is kept, or, without a key, the
    first ones row by row.
    """
    n = chosen.shape[-1]
    order = jnp.arange(n) / n if key is None else jax.random.uniform(key, chosen.shape)
    order = jnp.broadcast_to(order, chosen.shape)
    indices = jnp.argsort(jnp.where(chosen, order, 2.0), axis=-1)[..., :length]
    return indices, jnp.take_along_axis(chosen, indices, axis=-1)
