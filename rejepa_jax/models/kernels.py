"""Dense products, attention and GELU, each written down with its rounding, for all backends.

Activations may be bfloat16: what is multiplied by a matrix unit stays so, in the backward pass too,
where the products of other formulations meet a float32 factor; sums, powers and erf are float32.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

Heads = Float[Array, "b a _ h"]
Matrices = Float[Array, "b a _ _"]
Visible = Bool[Array, "b _ k"]  # which tokens (last axis) each one, or all alike, may look at
ATTENDED = "attended"  # the name of what `attend` would keep for its backward pass


@jax.custom_vjp
def attend(query: Heads, key: Heads, value: Heads, visible: Visible | None = None) -> Heads:
    """Returns the values weighted by a softmax over query · key of those that are visible.

    The powers of the softmax are divided by their sum after they have met the values, which are
    fewer than they; the backward pass makes them again from queries and keys, and of what else it
    needs only their largest exponents and their sums are kept (Dao et al. 2022, without the tiles).
    """
    return _attend(query, key, value, visible)[0]


def _attend(
    query: Heads, key: Heads, value: Heads, visible: Visible | None
) -> tuple[Heads, tuple[Any, ...]]:
    scores = _scores(query, key, visible)
    highest = checkpoint_name(scores.max(axis=-1, keepdims=True), ATTENDED)
    powers = jnp.exp(scores - highest)
    total = checkpoint_name(powers.sum(axis=-1, keepdims=True), ATTENDED)
    mixed = product(powers.astype(value.dtype), value, 3, 2) / total
    mixed = checkpoint_name(mixed.astype(value.dtype), ATTENDED)
    return mixed, (query, key, value, visible, highest, total, mixed)


def _attend_backward(kept: tuple[Any, ...], grad: Heads) -> tuple[Any, ...]:
    query, key, value, visible, highest, total, mixed = kept
    powers = jnp.exp(_scores(query, key, visible) - highest)
    share = grad / total
    mean = (share * mixed).sum(axis=-1, keepdims=True)
    share = share.astype(grad.dtype)
    scores_grad = (powers * (product(share, value, 3, 3) - mean)).astype(grad.dtype)
    # The narrow factor comes first, so that XLA on a CPU transposes it and not the wide one.
    grads = (
        product(scores_grad, key, 3, 2),
        product(query, scores_grad, 2, 2).swapaxes(2, 3),
        product(share, powers.astype(grad.dtype), 2, 2).swapaxes(2, 3),
    )
    return *(array.astype(grad.dtype) for array in grads), None


attend.defvjp(_attend, _attend_backward)


def _scores(query: Heads, key: Heads, visible: Visible | None) -> Matrices:
    scores = product(query, key, 3, 3)
    if visible is None:
        return scores
    return jnp.where(visible[:, None], scores, jnp.finfo(scores.dtype).min)


def product(left: Matrices, right: Matrices, axis: int, right_axis: int) -> Matrices:
    """Multiplies image by image and head by head, summing over an axis of each in float32."""
    return jax.lax.dot_general(
        left,
        right,
        (((axis,), (right_axis,)), ((0, 1), (0, 1))),
        preferred_element_type=wide(left.dtype),
    )


@jax.custom_vjp
def dense(inputs: Float[Array, "*b i"], kernel: Float[Array, "i o"]) -> Float[Array, "*b o"]:
    """Returns inputs @ kernel.

    The kernel's gradient is the product that gives it as it lies. JAX takes the product that gives
    its transpose, for which XLA on a CPU copies both factors: a fifth slower.
    """
    return _dense(inputs, kernel)[0]


def _dense(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    axes = (((inputs.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(inputs, kernel, axes), (inputs, kernel)


def _dense_backward(kept: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    inputs, kernel = kept
    rows = tuple(range(inputs.ndim - 1))
    return (
        jax.lax.dot_general(grad, kernel, (((grad.ndim - 1,), (1,)), ((), ()))),
        jax.lax.dot_general(inputs, grad, ((rows, rows), ((), ()))),
    )


dense.defvjp(_dense, _dense_backward)


def gelu(values: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Returns x Φ(x) by erf; `jax.nn.gelu` takes erfc, which costs three times as much."""
    x = values.astype(wide(values.dtype))
    return (0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))).astype(values.dtype)


def wide(dtype: Any) -> Any:
    """Returns float32, or what is wider."""
    return jnp.promote_types(dtype, jnp.float32)
