"""A Vision Transformer that can be given some of an image's tokens (Dosovitskiy et al. 2021).

Pre-norm blocks, sine-cosine or learned positions, an optional class token, a final norm.
"""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from rejepa_jax.models.position import sincos_positions
from rejepa_jax.models.transformer import INIT_STD, layer_norm, linear, run_blocks, stacked_blocks


@dataclasses.dataclass(frozen=True)
class EncoderSpec:
    """All that the shape of an encoder depends on."""

    image_size: int
    patch_size: int
    bands: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    dtype: str  # of activations; parameters are float32
    class_token: bool = False  # a learned token that sees all others; never among the results
    positions: str = "fixed"  # sine-cosine, or a learned table
    unroll: bool = False  # lay the blocks out one after the other instead of looping over them
    remat: str = "none"  # kept for the backward pass: transformer.KEPT; changes no result

    @property
    def grid_size(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def num_tokens(self) -> int:
        """Patches of an image."""
        return self.grid_size**2


def patchify(image: Float[Array, "b h w c"], patch_size: int) -> Float[Array, "b n p"]:
    """Cuts images into square patches, row by row, each flattened as (row, column, band)."""
    b, h, w, c = image.shape
    rows, columns = h // patch_size, w // patch_size
    grid = image.reshape(b, rows, patch_size, columns, patch_size, c)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows * columns, patch_size**2 * c)


def gather_tokens(
    tokens: Float[Array, "b n d"], indices: Int[Array, "b k"]
) -> Float[Array, "b k d"]:
    """Picks each image's tokens at its own indices."""
    return jnp.take_along_axis(tokens, indices[..., None], axis=1)


class Encoder(nnx.Module):
    """Images to normalised tokens, of all patches or of some."""

    def __init__(self, spec: EncoderSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.patch_embed = linear(spec.patch_size**2 * spec.bands, spec.embed_dim, spec.dtype, rngs)
        self.blocks = stacked_blocks(
            spec.embed_dim, spec.depth, spec.num_heads, spec.mlp_ratio, spec.dtype, rngs
        )
        self.norm = layer_norm(spec.embed_dim, spec.dtype, rngs)
        init = nnx.initializers.normal(INIT_STD)
        if spec.class_token:
            self.class_token = nnx.Param(init(rngs.params(), (spec.embed_dim,)))
        if spec.positions == "learned":
            shape = (spec.num_tokens, spec.embed_dim)
            self.positions = nnx.Param(init(rngs.params(), shape))

    def __call__(
        self,
        image: Float[Array, "b h w c"],
        indices: Int[Array, "b k"] | None = None,
        valid: Bool[Array, "b k"] | None = None,
    ) -> Float[Array, "b k d"]:
        """Encodes the patches at `indices`, or all; patches left out cost nothing (eqs. 2, 4).

        Tokens that are not `valid` fill the array up: no other token sees them.
        """
        return self.encode(image, indices, valid)[:, int(self.spec.class_token) :]

    def encode(
        self,
        image: Float[Array, "b h w c"],
        indices: Int[Array, "b k"] | None = None,
        valid: Bool[Array, "b k"] | None = None,
    ) -> Float[Array, "b k2 d"]:
        """Does the same and returns the class token too, before the others."""
        tokens = self.embed(image, indices)
        if valid is not None and self.spec.class_token:
            valid = jnp.pad(valid, ((0, 0), (1, 0)), constant_values=True)
        visible = None if valid is None else valid[:, None, :]
        spec = self.spec
        tokens = run_blocks(self.blocks, tokens, visible, unroll=spec.unroll, remat=spec.remat)
        return self.norm(tokens)

    def embed(
        self, image: Float[Array, "b h w c"], indices: Int[Array, "b k"] | None = None
    ) -> Float[Array, "b k2 d"]:
        """Returns what enters the first block: patches with positions, after a class token."""
        patches = patchify(image, self.spec.patch_size)
        positions = jnp.broadcast_to(self.pos_embed(), (len(image), *self.pos_embed().shape))
        if indices is not None:
            patches, positions = gather_tokens(patches, indices), gather_tokens(positions, indices)
        tokens = self.patch_embed(patches) + positions
        if not self.spec.class_token:
            return tokens
        token = self.class_token[...].astype(tokens.dtype)[None, None]
        return jnp.concatenate(
            [jnp.broadcast_to(token, (len(image), 1, token.shape[2])), tokens], 1
        )

    def pos_embed(self) -> Float[Array, "n d"]:
        """The position table, in the activations' dtype."""
        if self.spec.positions == "learned":
            return self.positions[...].astype(self.spec.dtype)
        return jnp.asarray(
            sincos_positions(self.spec.grid_size, self.spec.embed_dim), self.spec.dtype
        )
