"""Guesses the features of hidden patches from those of visible ones (paper 3.4, eq. 6)."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rejepa_jax.models import vit
from rejepa_jax.models.position import sincos_positions
from rejepa_jax.types import Masks


@dataclasses.dataclass(frozen=True)
class PredictorSpec:
    """All that the shape of a predictor depends on, beside its encoder's."""

    dim: int
    depth: int


class Predictor(nnx.Module):
    """A narrow transformer over context tokens and one mask token for each hidden patch."""

    def __init__(self, spec: PredictorSpec, encoder: vit.EncoderSpec, *, rngs: nnx.Rngs):
        self.grid_size, self.dtype = encoder.grid_size, encoder.dtype
        self.embed = vit.linear(encoder.embed_dim, spec.dim, encoder.dtype, rngs)
        token = nnx.initializers.normal(vit.INIT_STD)(rngs.params(), (spec.dim,))
        self.mask_token = nnx.Param(token)
        self.blocks = vit.stacked_blocks(
            spec.dim, spec.depth, encoder.num_heads, encoder.mlp_ratio, encoder.dtype, rngs
        )
        self.norm = vit.layer_norm(spec.dim, encoder.dtype, rngs)
        self.project = vit.linear(spec.dim, encoder.embed_dim, encoder.dtype, rngs)

    def __call__(self, context: Float[Array, "b k d"], masks: Masks) -> Float[Array, "b m t d"]:
        """Predicts each target group from the whole context; groups do not see one another."""
        b, m, t = masks["target"].shape
        positions = jnp.asarray(
            sincos_positions(self.grid_size, self.mask_token.shape[0]), self.dtype
        )
        known = self.embed(context) + positions[masks["context"]]
        mask_token = self.mask_token[...].astype(self.dtype)[None, None]
        asked = mask_token + positions[masks["target"].reshape(b * m, t)]
        tokens = jnp.concatenate([jnp.repeat(known, m, axis=0), asked], axis=1)
        predicted = self.norm(vit.run_blocks(self.blocks, tokens)[:, -t:])
        return self.project(predicted).reshape(b, m, t, -1)
