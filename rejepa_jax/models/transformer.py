"""Pre-norm transformer blocks, kept stacked along a leading axis and run by one loop.

Equal blocks under one `lax.scan` cost no compile time for their depth; laid out one after the other
(`unroll`) they cost some. What stays of a block for the backward pass is said here (`KEPT`) and not
left to what each operation happens to ask for: norms, softmax and GELU are computed again, which
costs less than to write them to memory and to read them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from rejepa_jax.models import kernels
from rejepa_jax.models.kernels import Visible

NORM_EPS = 1e-6
INIT_STD = 0.02
KEPT: dict[str, Any] = {  # beside a block's input, by setting
    "none": jax.checkpoint_policies.save_only_these_names("qkv", kernels.ATTENDED, "middle", "up"),
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "block": jax.checkpoint_policies.nothing_saveable,
}


def linear(
    inputs: int, outputs: int, dtype: str, rngs: nnx.Rngs, std: float = INIT_STD
) -> nnx.Linear:
    """A dense layer with normal weights and zero bias.

    I-JEPA's truncation at ±2 lies a hundred deviations out and never acts, so it is left away.
    """
    init = nnx.initializers.normal(std)
    return nnx.Linear(
        *(inputs, outputs),
        kernel_init=init,
        dtype=jnp.dtype(dtype),
        dot_general=_dot_general,
        rngs=rngs,
    )


def _dot_general(inputs: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """Multiplies for `nnx.Linear`, which also says over which axes: always these."""
    return kernels.dense(inputs, kernel)


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
        mixed = kernels.attend(*self._heads(tokens), visible)
        return self.project(mixed.transpose(0, 2, 1, 3).reshape(tokens.shape))

    def weights(self, tokens: Float[Array, "b k d"]) -> Float[Array, "b a k k"]:
        """Returns how much each token (row) looks at each other, by attention head `a`."""
        query, key, _ = self._heads(tokens)
        return jax.nn.softmax(kernels.product(query, key, 3, 3), axis=-1)

    def _heads(self, tokens: Float[Array, "b k d"]) -> list[Float[Array, "b a k h"]]:
        """Returns queries, which are scaled already, keys and values by head."""
        b, k, d = tokens.shape
        qkv = checkpoint_name(self.qkv(tokens), "qkv")
        parts = [part.reshape(b, k, self.num_heads, -1) for part in jnp.split(qkv, 3, axis=-1)]
        query, key, value = (part.transpose(0, 2, 1, 3) for part in parts)
        return [query / math.sqrt(d // self.num_heads), key, value]


class Mlp(nnx.Module):
    """Two dense layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int, dtype: str, residual_std: float, *, rngs: nnx.Rngs):
        self.up = linear(dim, hidden, dtype, rngs)
        self.down = linear(hidden, dim, dtype, rngs, residual_std)

    def __call__(self, tokens: Float[Array, "b k d"]) -> Float[Array, "b k d"]:
        return self.down(kernels.gelu(checkpoint_name(self.up(tokens), "up")))


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
        tokens = checkpoint_name(tokens, "middle")
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
    remat: str = "none",
) -> Float[Array, "b k d"]:
    """Runs stacked blocks one after the other; a token that is not visible is looked at by none."""

    def run(tokens: Array, block: Block) -> tuple[Array, None]:
        return block(tokens, visible), None

    # The compiler would undo it among blocks that are laid out, but not inside a loop.
    run = jax.checkpoint(run, prevent_cse=unroll, policy=KEPT[remat])
    return jax.lax.scan(run, tokens, blocks, unroll=unroll)[0]
