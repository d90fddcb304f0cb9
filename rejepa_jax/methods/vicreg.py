"""VICReg on the features of a JEPA step: variance, covariance, invariance (paper eqs. 8-10, 12).

Targets carry no gradient, so spread is asked of what does: the pooled context, the pooled
predictions, or the context's single tokens (`vicreg.on`).
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rejepa_jax.config import Loss, Vicreg
from rejepa_jax.methods import losses
from rejepa_jax.models import flops
from rejepa_jax.types import Masks, Metrics

Expand = Callable[..., Float[Array, "r e"]]  # of features, and which of them are valid


def vicreg_terms(
    vicreg: Vicreg,
    distance: Loss,
    expander: Expand | None,
    context: Float[Array, "b k d"],
    predicted: Float[Array, "b m t d"],
    target: Float[Array, "b m t d"],
    masks: Masks,
) -> Metrics:
    """Returns the three terms and their weighted sum; two views' images follow one another."""
    expand = expander or (lambda features, _valid=None: features)
    num_views = 2 if vicreg.invariance == "two_view" else 1
    context_valid, target_valid = masks["context_valid"], masks["target_valid"]
    pooled = losses.pool(context, context_valid, vicreg.pool)
    guess, truth = (
        pool_groups(tokens, target_valid, vicreg.pool) for tokens in (predicted, target)
    )
    flat_valid = None if context_valid is None else context_valid.reshape(-1)
    known: dict[str, tuple[Array, Array | None]] = {  # features, and which of them are valid
        "context": (pooled, None),
        "prediction": (guess, None),
        "context_tokens": (context.reshape(-1, context.shape[-1]), flat_valid),
    }
    spread = [
        _spread(vicreg, expand, part, valid)
        for name in vicreg.on
        for part, valid in _split(*known[name], num_views)
    ]
    variance, covariance = (
        sum(terms, jnp.zeros(())) / len(spread) for terms in zip(*spread, strict=True)
    )
    views = jnp.split(pooled, num_views)
    pairs = {"none": None, "pred_target": (guess, truth), "two_view": (views[0], views[-1])}
    pair = pairs[vicreg.invariance]
    invariance = jnp.zeros(())
    if pair is not None:
        first, second = pair
        invariance = losses.invariance_loss(expand(first), expand(second), distance)
    total = (
        vicreg.variance_weight * variance
        + vicreg.covariance_weight * covariance
        + vicreg.invariance_weight * invariance
    )
    return {
        "vicreg_loss": total,
        "variance_loss": variance,
        "covariance_loss": covariance,
        "invariance_loss": invariance,
        "context_std": jnp.mean(losses.feature_std(views[0], 0.0)),
    }


def pool_groups(
    tokens: Float[Array, "b m t d"], valid: Bool[Array, "b m t"] | None, how: str
) -> Float[Array, "b e"]:
    """Pools all of an image's target tokens together."""
    b, m, t, d = tokens.shape
    flat = None if valid is None else valid.reshape(b, m * t)
    return losses.pool(tokens.reshape(b, m * t, d), flat, how)


def _split(
    features: Float[Array, "r d"], valid: Bool[Array, " r"] | None, parts: int
) -> list[tuple[Array, Array | None]]:
    """Cuts rows into equal parts, the views of a batch."""
    flags = [None] * parts if valid is None else jnp.split(valid, parts)
    return list(zip(jnp.split(features, parts), flags, strict=True))


def _spread(
    vicreg: Vicreg, expand: Expand, features: Float[Array, "r d"], valid: Bool[Array, " r"] | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the variance and covariance terms over the whole batch, or each device's share."""

    def terms(features: Array, valid: Array | None) -> tuple[Array, Array]:
        variance = losses.variance_loss(features, vicreg.std_target, vicreg.eps, valid)
        return variance, losses.covariance_loss(features, valid)

    expanded, shares = expand(features, valid), _shares() if vicreg.stats == "per_device" else 1
    if shares == 1:
        return terms(expanded, valid)
    split = jax.tree.map(lambda x: x.reshape(shares, -1, *x.shape[1:]), (expanded, valid))
    variance, covariance = jax.vmap(terms)(*split)
    return jnp.mean(variance), jnp.mean(covariance)


def _shares() -> int:
    """Returns how many devices of the mesh around the call split the batch; without one, all."""
    sizes = jax.sharding.get_abstract_mesh().shape
    return sizes["data"] * sizes["fsdp"] if sizes else jax.device_count()


def feature_width(vicreg: Vicreg, embed_dim: int) -> int:
    """Returns the width of pooled features."""
    return embed_dim * (2 if vicreg.pool == "mean_std" else 1)


def vicreg_flops(vicreg: Vicreg, embed_dim: int, context: int) -> float:
    """Counts the expander and the covariances of one view, forward, an image."""
    widths = (feature_width(vicreg, embed_dim), *vicreg.expander)
    spread = sum(context if name == "context_tokens" else 1 for name in vicreg.on)
    paired = {"none": 0, "pred_target": 2, "two_view": 1}[vicreg.invariance]
    expanded = sum(flops.linear_flops(a, b, spread + paired) for a, b in itertools.pairwise(widths))
    return expanded + flops.linear_flops(widths[-1], widths[-1], spread)
