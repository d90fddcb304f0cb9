"""Floating-point operations of a forward pass over one image, counted by hand from the shapes.

A multiply-add is two operations. Counted are the matrix products: patch embedding, projections,
MLPs, and attention's two products of tokens with tokens. Left out is what grows with the width and
not with its square: norms, softmax, GELU, residuals, biases, positions and losses. Tokens that a
mask hides cost as much as others do.
"""

from rejepa_jax.models.predictor import PredictorSpec
from rejepa_jax.models.vit import EncoderSpec


def linear_flops(inputs: int, outputs: int, tokens: int) -> float:
    """Counts a dense layer over some tokens."""
    return 2.0 * inputs * outputs * tokens


def blocks_flops(dim: int, depth: int, tokens: int, mlp_ratio: float) -> float:
    """Counts transformer blocks in which each token looks at each."""
    projections = linear_flops(dim, 4 * dim, tokens)  # query, key, value, output
    attention = 2 * linear_flops(tokens, dim, tokens)  # scores, and values mixed by them
    mlp = 2 * linear_flops(dim, int(mlp_ratio * dim), tokens)
    return depth * (projections + attention + mlp)


def encoder_flops(spec: EncoderSpec, tokens: int | None = None) -> float:
    """Counts an encoder over `tokens` patches of an image, or over all; a class token is added."""
    patches = spec.num_tokens if tokens is None else tokens
    embed = linear_flops(spec.patch_size**2 * spec.bands, spec.embed_dim, patches)
    seen = patches + spec.class_token
    return embed + blocks_flops(spec.embed_dim, spec.depth, seen, spec.mlp_ratio)


def predictor_flops(
    spec: PredictorSpec, encoder: EncoderSpec, context: int, targets: int, groups: int = 1
) -> float:
    """Counts a predictor of `groups` times `targets` tokens, in as many calls as its mode makes.

    `context` is the number of tokens that it is given, a class token included.
    """
    asked = groups * targets
    calls = {"joint": 1, "per_group": groups, "per_token": asked}[spec.mode]
    embed = linear_flops(encoder.embed_dim, spec.dim, context)
    blocks = blocks_flops(spec.dim, spec.depth, context + asked // calls, encoder.mlp_ratio)
    return embed + calls * blocks + linear_flops(spec.dim, spec.outputs, asked)
