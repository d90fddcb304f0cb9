"""A Vision Transformer that can be given some of an image's tokens (Dosovitskiy et al. 2021).

Pre-norm blocks, sine-cosine or learned positions, an optional class token, a final norm. Equal
blocks are kept stacked along a leading axis and run by one `lax.scan`, so that depth costs no
compile time.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from rejepa_jax.models.position import sincos_positions

Visible = Bool[Array, "b _ k"]  # which tokens (last axis) each one, or all alike, may look at
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
    class_token: bool = False  # a learned token that sees all others; never among the results
    positions: str = "fixed"  # sine-cosine, or a learned table
    unroll: bool = False  # lay the blocks out one after the other instead of looping over them

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
    """Multi-head self-attention over all given tokens, or over those that are visible."""

    def __init__(
        self, dim: int, num_heads: int, dtype: str, residual_std: float, *, rngs: nnx.Rngs
    ):
        self.num_heads = num_heads
        self.qkv = linear(dim, 3 * dim, dtype, rngs)
        self.project = linear(dim, dim, dtype, rngs, residual_std)

    def __call__(
        self, tokens: Float[Array, "b k d"], visible: Visible | None = None
    ) -> Float[Array, "b k d"]:
        query, key, value = self._heads(tokens)
        mask = None if visible is None else visible[:, None]
        mixed = jax.nn.dot_product_attention(query, key, value, mask=mask)
        return self.project(mixed.reshape(tokens.shape))

    def weights(self, tokens: Float[Array, "b k d"]) -> Float[Array, "b a k k"]:
        """Returns how much each token (row) looks at each other, by attention head `a`."""
        query, key, _ = self._heads(tokens)
        scale = math.sqrt(query.shape[-1])
        scores = jnp.einsum("bqah,bkah->baqk", query, key).astype(jnp.float32) / scale
        return jax.nn.softmax(scores, axis=-1)

    def _heads(self, tokens: Float[Array, "b k d"]) -> list[Float[Array, "b k a h"]]:
        b, k, d = tokens.shape
        qkv = self.qkv(tokens).reshape(b, k, 3, self.num_heads, d // self.num_heads)
        return [qkv[:, :, part] for part in range(3)]


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

    def __call__(
        self, tokens: Float[Array, "b k d"], visible: Visible | None = None
    ) -> Float[Array, "b k d"]:
        tokens = tokens + self.attention(self.norm1(tokens), visible)
        return tokens + self.mlp(self.norm2(tokens))


def stacked_blocks(
    dim: int, depth: int, num_heads: int, mlp_ratio: float, dtype: str, rngs: nnx.Rngs
) -> Block:
    """Makes `depth` blocks as one whose arrays have a leading layer axis."""
    blocks = [
        Block(dim, num_heads, mlp_ratio, dtype, layer + 1, rngs=rngs) for layer in range(depth)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)


def run_blocks(
    blocks: Block,
    tokens: Float[Array, "b k d"],
    visible: Visible | None = None,
    *,
    unroll: bool = False,
) -> Float[Array, "b k d"]:
    """Runs stacked blocks one after the other; a token that is not visible is looked at by none."""

    def run(tokens: Array, block: Block) -> tuple[Array, None]:
        return block(tokens, visible), None

    return jax.lax.scan(run, tokens, blocks, unroll=unroll)[0]


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
        return self.norm(run_blocks(self.blocks, tokens, visible, unroll=self.spec.unroll))

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
