"""Guesses what lies at hidden patches from the features of visible ones (paper 3.4, eq. 6)."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from rejepa_jax.models import transformer
from rejepa_jax.models.position import sincos_positions
from rejepa_jax.models.vit import EncoderSpec
from rejepa_jax.types import Masks


@dataclasses.dataclass(frozen=True)
class PredictorSpec:
    """All that the shape of a predictor depends on, beside its encoder's."""

    dim: int
    depth: int
    num_heads: int
    outputs: int  # numbers guessed for each patch
    mode: str = "joint"  # which targets share a call: joint | per_group | per_token
    query_attention: str = "joint"  # independent: mask tokens do not see one another


class Predictor(nnx.Module):
    """A narrow transformer over context tokens and one mask token for each hidden patch."""

    def __init__(self, spec: PredictorSpec, encoder: EncoderSpec, *, rngs: nnx.Rngs):
        self.spec, self.grid_size, self.dtype = spec, encoder.grid_size, encoder.dtype
        self.unroll, self.remat = encoder.unroll, encoder.remat
        self.embed = transformer.linear(encoder.embed_dim, spec.dim, encoder.dtype, rngs)
        token = nnx.initializers.normal(transformer.INIT_STD)(rngs.params(), (spec.dim,))
        self.mask_token = nnx.Param(token)
        self.blocks = transformer.stacked_blocks(
            spec.dim, spec.depth, spec.num_heads, encoder.mlp_ratio, encoder.dtype, rngs
        )
        self.norm = transformer.layer_norm(spec.dim, encoder.dtype, rngs)
        self.project = transformer.linear(spec.dim, spec.outputs, encoder.dtype, rngs)

    def __call__(self, context: Float[Array, "b k2 d"], masks: Masks) -> Float[Array, "b m t o"]:
        """Predicts the targets; a class token, which has no position, comes before the context."""
        b, m, t = masks["target"].shape
        calls, queries = {"joint": (1, m * t), "per_group": (m, t), "per_token": (m * t, 1)}[
            self.spec.mode
        ]
        positions = jnp.asarray(sincos_positions(self.grid_size, self.spec.dim), self.dtype)
        extra = context.shape[1] - masks["context"].shape[1]
        known_positions = jnp.pad(positions[masks["context"]], ((0, 0), (extra, 0), (0, 0)))
        known = self.embed(context) + known_positions
        mask_token = self.mask_token[...].astype(self.dtype)[None, None]
        asked = mask_token + positions[masks["target"].reshape(b * calls, queries)]
        tokens = jnp.concatenate([jnp.repeat(known, calls, axis=0), asked], axis=1)
        visible = self._visible(masks, extra, calls, queries)
        seen = transformer.run_blocks(
            self.blocks, tokens, visible, unroll=self.unroll, remat=self.remat
        )
        return self.project(self.norm(seen[:, -queries:])).reshape(b, m, t, -1)

    def _visible(
        self, masks: Masks, extra: int, calls: int, queries: int
    ) -> Bool[Array, "b2 _ k2"] | None:
        """Says which tokens may be looked at: the valid ones, by independent mask tokens itself."""
        is_independent = self.spec.query_attention == "independent"
        context, target = masks["context_valid"], masks["target_valid"]
        if context is None and target is None and not is_independent:
            return None
        if context is None:
            context = jnp.ones(masks["context"].shape, bool)
        if target is None:
            target = jnp.ones(masks["target"].shape, bool)
        context = jnp.pad(context, ((0, 0), (extra, 0)), constant_values=True)
        target = target.reshape(len(context) * calls, 1, queries)
        context = jnp.repeat(context, calls, axis=0)[:, None]
        if not is_independent:
            return jnp.concatenate([context, target], axis=2)
        alone = jnp.concatenate([jnp.zeros((context.shape[2], queries)), jnp.eye(queries)]) > 0
        context = jnp.broadcast_to(context, (len(context), len(alone), context.shape[2]))
        return jnp.concatenate([context, alone[None] & target], axis=2)
