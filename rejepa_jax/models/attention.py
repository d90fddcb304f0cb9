"""Where an encoder looks: its attention weights, of the last layer and rolled out over all."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rejepa_jax.models.transformer import Block
from rejepa_jax.models.vit import Encoder


def attention_maps(encoder: Encoder, image: Float[Array, "b h w c"]) -> Float[Array, "l b a k k"]:
    """Returns how much each token (row) looks at each other, by layer `l` and head `a`.

    The class token comes first where the encoder has one.
    """

    def run(tokens: Array, block: Block) -> tuple[Array, Array]:
        return block(tokens), block.attention.weights(block.norm1(tokens))

    return jax.lax.scan(run, encoder.embed(image), encoder.blocks)[1]


def last_attention(maps: Float[Array, "l b a k k"], has_class_token: bool) -> Float[Array, "b n"]:
    """Returns the share of the last layer's attention that each patch gets, over all heads."""
    return received(maps[-1].mean(1), has_class_token)


def rollout(maps: Float[Array, "l b a k k"], has_class_token: bool) -> Float[Array, "b n"]:
    """Returns the share of what comes out that stems from each patch, by attention roll-out."""
    return received(rolled(maps), has_class_token)


def rolled(maps: Float[Array, "l b a k k"]) -> Float[Array, "b k k"]:
    """Multiplies the layers out (Abnar & Zuidema 2020): which input token an output stems from.

    A layer passes half of each token on and mixes the other half by the mean of its heads:
    A_l = ½ mean_a(W_la) + ½ I, whose rows sum to 1; the result is A_L … A_2 A_1.
    """
    layers = 0.5 * maps.mean(2) + 0.5 * jnp.eye(maps.shape[-1])[None, None]
    start = jnp.broadcast_to(jnp.eye(maps.shape[-1]), layers.shape[1:])
    return jax.lax.scan(lambda below, layer: (layer @ below, None), start, layers)[0]


def received(weights: Float[Array, "b k k"], has_class_token: bool) -> Float[Array, "b n"]:
    """Returns each patch's share, summing to 1, in the class token's row or in the mean of all."""
    shares = weights[:, 0, 1:] if has_class_token else weights.mean(1)
    return shares / shares.sum(1, keepdims=True)
