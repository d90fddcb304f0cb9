"""The MLP that VICReg can put between the features and its terms (Bardes et al. 2022)."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

Valid = Bool[Array, " b"] | None  # which rows count in the batch norms; None = all
NORM_EPS = 1e-5
init = nnx.initializers.he_normal()


class Hidden(nnx.Module):
    """A dense layer, a batch norm and a ReLU.

    The expander is thrown away after training, so its batch norms keep no running statistics.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(inputs, outputs, use_bias=False, kernel_init=init, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, features: Float[Array, "b d"], valid: Valid = None) -> Float[Array, "b o"]:
        features, where = self.linear(features), None if valid is None else valid[:, None]
        # In two passes: the mean of squares less the squared mean loses a small spread in float32.
        variance = jnp.var(features, axis=0, keepdims=True, where=where)
        standard = jax.nn.standardize(
            features, axis=0, variance=variance, epsilon=NORM_EPS, where=where
        )
        return jax.nn.relu(standard * self.scale[...][None] + self.bias[...][None])


class Expander(nnx.Module):
    """Hidden layers and a last dense one; only the loss sees its outputs."""

    def __init__(self, inputs: int, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        *hidden, last = itertools.pairwise((inputs, *widths))
        self.hidden = nnx.List([Hidden(a, b, rngs=rngs) for a, b in hidden])
        self.project = nnx.Linear(*last, use_bias=False, kernel_init=init, rngs=rngs)

    def __call__(self, features: Float[Array, "b d"], valid: Valid = None) -> Float[Array, "b o"]:
        for layer in self.hidden:
            features = layer(features, valid)
        return self.project(features)
