"""The terms of the objective, in float32.

Tokens and features that are not `valid` only fill arrays up and count nowhere.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rejepa_jax.config import Loss

TARGET_NORM_EPS = 1e-5
POOL_EPS = 1e-4  # on the variance of tokens: its root has no gradient at 0
Valid = Bool[Array, "*b"] | None


def wide(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns values in float32, or as they are if they are wider."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def normalise_targets(
    tokens: Float[Array, "b n d"], norm: str, valid: Bool[Array, "b n"] | None = None
) -> Float[Array, "b n d"]:
    """Standardises target tokens.

    `layer`: each token over its features (I-JEPA); `batch`: each feature over all valid tokens;
    `none`.
    """
    tokens = wide(tokens)
    axis = {"layer": -1, "batch": (0, 1), "none": None}[norm]
    if axis is None:
        return tokens
    where = None if valid is None or axis == -1 else valid[..., None]
    centre = jnp.mean(tokens, axis, keepdims=True, where=where)
    variance = jnp.var(tokens, axis, keepdims=True, where=where)
    return (tokens - centre) / jnp.sqrt(variance + TARGET_NORM_EPS)


def mean(values: Float[Array, "*b"], valid: Valid = None) -> Float[Array, ""]:
    """Returns the mean of the valid values."""
    return jnp.mean(values, where=valid)


def pool(
    tokens: Float[Array, "b k d"], valid: Bool[Array, "b k"] | None = None, how: str = "mean"
) -> Float[Array, "b e"]:
    """Returns the mean of each image's valid tokens; with `mean_std` their deviations after it.

    The deviation of a feature over an image's tokens tells how varied the image is, which the mean
    cannot: a texture from an even surface of the same colour.
    """
    tokens = wide(tokens)
    where = jnp.ones(tokens.shape[:2], bool) if valid is None else valid
    count = jnp.maximum(jnp.sum(where, axis=1, keepdims=True), 1)  # an image may have none
    mean = jnp.sum(tokens, axis=1, where=where[..., None]) / count
    if how == "mean":
        return mean
    spread = jnp.square(tokens - mean[:, None])
    variance = jnp.sum(spread, axis=1, where=where[..., None]) / count
    return jnp.concatenate([mean, jnp.sqrt(variance + POOL_EPS)], axis=1)


def prediction_loss(
    predicted: Float[Array, "*b d"], target: Float[Array, "*b d"], loss: Loss, valid: Valid = None
) -> Float[Array, ""]:
    """Distance of predicted from target features, averaged over targets (eq. 11).

    Features are averaged too (`mean`: eq. 11 divided by the width) or summed (`sum_dim`).
    """
    error = jnp.abs(wide(predicted) - target)
    distance = {
        "l2": lambda: jnp.square(error),
        "smooth_l1": lambda: jnp.where(error < 1, 0.5 * jnp.square(error), error - 0.5),
        "l1": lambda: error,
    }[loss.type]()
    reduce = {"mean": jnp.mean, "sum_dim": jnp.sum}[loss.reduction]
    return mean(reduce(distance, axis=-1), valid)


def invariance_loss(
    first: Float[Array, "b d"], second: Float[Array, "b d"], loss: Loss
) -> Float[Array, ""]:
    """Squared difference of paired features (eq. 10, or divided by the width: `mean`)."""
    return prediction_loss(first, second, Loss("l2", loss.reduction))


def centred(
    features: Float[Array, "r d"], valid: Bool[Array, " r"] | None = None
) -> tuple[Float[Array, "r d"], Float[Array, ""]]:
    """Returns features less their mean, zero where not valid, and how many are free: valid - 1.

    No gradient goes through the mean: it is zero for the sums of squares and products that are
    made of the result, and devices that share a batch would have to add zeros up.
    """
    features = wide(features)
    valid = jnp.ones(len(features), bool) if valid is None else valid
    centre = jax.lax.stop_gradient(jnp.mean(features, axis=0, keepdims=True, where=valid[:, None]))
    return jnp.where(valid[:, None], features - centre, 0.0), jnp.sum(valid) - 1.0


def feature_std(
    features: Float[Array, "r d"], eps: float, valid: Bool[Array, " r"] | None = None
) -> Float[Array, " d"]:
    """Standard deviation of each feature over the whole batch, every device's part included."""
    spread, free = centred(features, valid)
    return jnp.sqrt(jnp.sum(jnp.square(spread), axis=0) / free + eps)


def variance_loss(
    features: Float[Array, "r d"],
    std_target: float,
    eps: float,
    valid: Bool[Array, " r"] | None = None,
) -> Float[Array, ""]:
    """How far features fall short of the wanted spread (eq. 8); zero once all reach it."""
    return jnp.mean(jax.nn.relu(std_target - feature_std(features, eps, valid)))


def covariance_loss(
    features: Float[Array, "r d"], valid: Bool[Array, " r"] | None = None
) -> Float[Array, ""]:
    """Squared covariances between different features, summed over their number (eq. 9)."""
    spread, free = centred(features, valid)
    covariance = spread.T @ spread / free
    off_diagonal = jnp.sum(jnp.square(covariance)) - jnp.sum(jnp.square(jnp.diagonal(covariance)))
    return off_diagonal / features.shape[1]
