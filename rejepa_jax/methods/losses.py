"""The terms of the objective, in float32, each a mean so that its size does not depend on width."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TARGET_NORM_EPS = 1e-5


def normalise_targets(tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Brings each target token to zero mean and unit variance over its features (I-JEPA)."""
    tokens = tokens.astype(jnp.float32)
    return jax.nn.standardize(tokens, axis=-1, epsilon=TARGET_NORM_EPS)


def prediction_loss(
    predicted: Float[Array, "b m t d"], target: Float[Array, "b m t d"]
) -> Float[Array, ""]:
    """Mean squared error over targets and features: eq. 11 divided by the feature width."""
    return jnp.mean(jnp.square(predicted.astype(jnp.float32) - target))


def feature_std(features: Float[Array, "b d"], eps: float) -> Float[Array, " d"]:
    """Standard deviation of each feature over the whole batch, every device's part included."""
    return jnp.sqrt(jnp.var(features.astype(jnp.float32), axis=0, ddof=1) + eps)


def variance_loss(features: Float[Array, "b d"], std_target: float, eps: float) -> Float[Array, ""]:
    """How far features fall short of the wanted spread (eq. 8); zero once all reach it."""
    return jnp.mean(jax.nn.relu(std_target - feature_std(features, eps)))


def covariance_loss(features: Float[Array, "b d"]) -> Float[Array, ""]:
    """Squared covariances between different features, summed over their number (eq. 9)."""
    centred = features.astype(jnp.float32) - jnp.mean(
        features.astype(jnp.float32), 0, keepdims=True
    )
    b, d = features.shape
    covariance = centred.T @ centred / (b - 1)
    return (jnp.sum(jnp.square(covariance)) - jnp.sum(jnp.square(jnp.diagonal(covariance)))) / d


def invariance_loss(first: Float[Array, "b d"], second: Float[Array, "b d"]) -> Float[Array, ""]:
    """Mean squared difference of paired features: eq. 10 divided by the feature width."""
    return jnp.mean(jnp.square(first.astype(jnp.float32) - second.astype(jnp.float32)))
