"""From an image's tokens to one vector: their mean, their spread, or a mean that favours some."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rejepa_jax.methods.losses import pool
from rejepa_jax.models.attention import received
from rejepa_jax.models.vit import Encoder, run_blocks

Image = Float[Array, "b h w c"]


def mean(encoder: Encoder, image: Image) -> Float[Array, "b d"]:
    """Returns the mean of the tokens (paper 4.2)."""
    return pool(encoder(image))


def mean_std(encoder: Encoder, image: Image) -> Float[Array, "b e"]:
    """Returns the mean of the tokens and, after it, their standard deviation."""
    return pool(encoder(image), how="mean_std")


def gem(encoder: Encoder, image: Image) -> Float[Array, "b d"]:
    """Returns the cube root of the mean of the tokens' cubes, feature by feature.

    This is the generalised mean with p = 3 (Radenović et al. 2019). That paper's features are
    positive; here they have signs, which the odd power keeps.
    """
    return jnp.cbrt((encoder(image).astype(jnp.float32) ** 3).mean(1))


def attention(encoder: Encoder, image: Image) -> Float[Array, "b d"]:
    """Returns the mean of the tokens, each weighted by its share of the last block's attention.

    The share is that of the report's pictures: the mean over heads, and over all tokens that look;
    where there is a class token, what that one looks at.
    """
    earlier = jax.tree.map(lambda layers: layers[:-1], encoder.blocks)
    last = jax.tree.map(lambda layers: layers[-1], encoder.blocks)
    tokens = run_blocks(earlier, encoder.embed(image), unroll=encoder.spec.unroll)
    weights = last.attention.weights(last.norm1(tokens)).mean(1)
    tokens = encoder.norm(last(tokens)).astype(jnp.float32)
    shares = received(weights, encoder.spec.class_token)
    return jnp.einsum("bn,bnd->bd", shares, tokens[:, encoder.spec.class_token :])


POOLS: dict[str, Callable[[Encoder, Image], Float[Array, "b _"]]] = {
    "mean": mean,
    "mean_std": mean_std,
    "gem": gem,
    "attention": attention,
}
