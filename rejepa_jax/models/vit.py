"""A Vision Transformer that can be given some of an image's tokens (Dosovitskiy et al. 2021).

Pre-norm blocks, fixed sine-cosine positions, no class token, a final norm. Equal blocks are kept
stacked along a leading axis and run by one `lax.scan`, so that depth costs no compile time.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rejepa_jax.models.position import sincos_positions

NORM_EPS = 1e-6
INIT_STD = 0.02


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


def linear(
    inputs: int, outputs: int, dtype: str, rngs: nnx.Rngs, std: float = INIT_STD
) -> nnx.Linear:
    """A dense layer with normal weights and zero bias.

    I-JEPA's truncation at ±2 lies a hundred deviations out and never acts, so it is left away.
    """
    init = nnx.initializers.normal(std)
    return nnx.Linear(inputs, outputs, kernel_init=init, dtype=jnp.dtype(dtype), rngs=rngs)


def layer_norm(dim: int, dtype: str, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A layer norm whose statistics are float32 whatever the activations are."""
    return nnx.LayerNorm(dim, epsilon=NORM_EPS, dtype=jnp.dtype(dtype), rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention over all given tokens."""

    def __init__(
        self, dim: int, num_heads: int, dtype: str, residual_std: float, *, rngs: nnx.Rngs
    ):
        self.num_heads = num_heads
        self.qkv = linear(dim, 3 * dim, dtype, rngs)
        self.project = linear(dim, dim, dtype, rngs, residual_std)

    def __call__(self, tokens: Float[Array, "b k d"]) -> Float[Array, "b k d"]:
        b, k, d = tokens.shape
        qkv = self.qkv(tokens).reshape(b, k, 3, self.num_heads, d // self.num_heads)
        mixed = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return self.project(mixed.reshape(b, k, d))


class Mlp(nnx.Module):
    """Two dense layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int, dtype: str, residual_std: float, *, rngs: nnx.Rngs):
        self.up = linear(dim, hidden, dtype, rngs)
        self.down = linear(hidden, dim, dtype, rngs, residual_std)

    def __call__(self, tokens: Float[Array, "b k d"]) -> Float[Array, "b k d"]:
        return self.down(jax.nn.gelu(self.up(tokens), approximate=False))


class Block(nnx.Module):
    """Attention and MLP, each behind a norm and added to what came in."""

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, dtype: str, layer: int, *, rngs: nnx.Rngs
    ):
        residual_std = INIT_STD / math.sqrt(2 * layer)  # layers counted from 1: BEiT's scaling
        self.norm1 = layer_norm(dim, dtype, rngs)
        self.attention = Attention(dim, num_heads, dtype, residual_std, rngs=rngs)
        self.norm2 = layer_norm(dim, dtype, rngs)
        self.mlp = Mlp(dim, int(mlp_ratio * dim), dtype, residual_std, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b k d"]) -> Float[Array, "b k d"]:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


def stacked_blocks(
    dim: int, depth: int, num_heads: int, mlp_ratio: float, dtype: str, rngs: nnx.Rngs
) -> Block:
    """Makes `depth` blocks as one whose arrays have a leading layer axis."""
    blocks = [
        Block(dim, num_heads, mlp_ratio, dtype, layer + 1, rngs=rngs) for layer in range(depth)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)


def run_blocks(blocks: Block, tokens: Float[Array, "b k d"]) -> Float[Array, "b k d"]:
    """Runs stacked blocks one after the other."""
    return jax.lax.scan(lambda tokens, block: (block(tokens), None), tokens, blocks)[0]


class Encoder(nnx.Module):
    """Images to normalised tokens, of all patches or of some."""

    def __init__(self, spec: EncoderSpec, *, rngs: nnx.Rngs):
        self.spec = spec
        self.patch_embed = linear(spec.patch_size**2 * spec.bands, spec.embed_dim, spec.dtype, rngs)
        self.blocks = stacked_blocks(
            spec.embed_dim, spec.depth, spec.num_heads, spec.mlp_ratio, spec.dtype, rngs
        )
        self.norm = layer_norm(spec.embed_dim, spec.dtype, rngs)

    def __call__(
        self, image: Float[Array, "b h w c"], indices: Int[Array, "b k"] | None = None
    ) -> Float[Array, "b k d"]:
        """Encodes the patches at `indices`, or all; patches left out cost nothing (eqs. 2, 4)."""
        patches = patchify(image, self.spec.patch_size)
        positions = jnp.broadcast_to(self.pos_embed(), (len(image), *self.pos_embed().shape))
        if indices is not None:
            patches, positions = gather_tokens(patches, indices), gather_tokens(positions, indices)
        tokens = self.patch_embed(patches) + positions
        return self.norm(run_blocks(self.blocks, tokens))

    def pos_embed(self) -> Float[Array, "n d"]:
        """The fixed position table, in the activations' dtype."""
        return jnp.asarray(
            sincos_positions(self.spec.grid_size, self.spec.embed_dim), self.spec.dtype
        )
