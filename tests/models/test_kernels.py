import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import QUICK

from rejepa_jax.models import kernels

SHAPE = (2, 3, 5, 4)  # images, heads, tokens, features of a head
rng = np.random.default_rng(8)
QUERY, KEY, VALUE, GRAD = rng.normal(size=(4, *SHAPE))
ALL = np.ones((2, 1, 5), bool)
SOME = ALL.copy()
SOME[1, 0, [0, 3]] = False
EACH = rng.random((2, 5, 5)) < 0.5  # differs by the token that looks
EACH |= np.eye(5, dtype=bool)


def softmax_gradients(query, key, value, grad, visible):
    """The textbook's: values, and gradients by way of the softmax's Jacobian, in float64."""
    scores = np.einsum("baqh,bakh->baqk", query, key)
    powers = np.exp(scores) * visible[:, None]
    weights = powers / powers.sum(-1, keepdims=True)
    jacobian = np.einsum("baqk,kl->baqkl", weights, np.eye(5))
    jacobian -= np.einsum("baqk,baql->baqkl", weights, weights)
    weights_grad = np.einsum("baqh,bakh->baqk", grad, value)
    scores_grad = np.einsum("baqkl,baql->baqk", jacobian, weights_grad)
    return np.einsum("baqk,bakh->baqh", weights, value), (
        np.einsum("baqk,bakh->baqh", scores_grad, key),
        np.einsum("baqk,baqh->bakh", scores_grad, query),
        np.einsum("baqk,baqh->bakh", weights, grad),
    )


@pytest.mark.parametrize("visible", [None, SOME, EACH], ids=["all", "some", "each its own"])
def test_attention_and_its_gradients_are_the_textbooks(visible):
    single = [jnp.asarray(array, jnp.float32) for array in (QUERY, KEY, VALUE, GRAD)]
    mask = None if visible is None else jnp.asarray(visible)

    def run(query, key, value, grad):
        mixed, pull = jax.vjp(lambda *heads: kernels.attend(*heads, mask), query, key, value)
        return mixed, pull(grad)

    got = jax.jit(run, compiler_options=QUICK)(*single)
    wanted = softmax_gradients(QUERY, KEY, VALUE, GRAD, ALL if visible is None else visible)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-6), got, wanted)


def test_attention_stays_finite_where_scores_are_large():
    heads = [jnp.asarray(30 * array, jnp.float32) for array in (QUERY, KEY, VALUE)]
    run = jax.jit(jax.value_and_grad(lambda *heads: kernels.attend(*heads).sum(), (0, 1, 2)))
    assert all(np.isfinite(array).all() for array in jax.tree.leaves(run(*heads)))


def test_gelu_is_x_times_the_normal_distribution():
    x = np.linspace(-6, 6, 49)
    normal = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    got, pull = jax.vjp(kernels.gelu, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, x * normal, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones(49))[0], normal + x * density, atol=1e-6)


def test_a_dense_products_gradients_by_hand():
    inputs, kernel = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5))
    grad = rng.normal(size=(2, 3, 5))
    single = (jnp.asarray(array, jnp.float32) for array in (inputs, kernel))
    outputs, pull = jax.vjp(kernels.dense, *single)
    to_inputs, to_kernel = pull(jnp.asarray(grad, jnp.float32))
    np.testing.assert_allclose(outputs, inputs @ kernel, atol=1e-6)
    np.testing.assert_allclose(to_inputs, grad @ kernel.T, atol=1e-6)
    rows = inputs.reshape(6, 4), grad.reshape(6, 5)
    np.testing.assert_allclose(to_kernel, rows[0].T @ rows[1], atol=2e-6)


def test_products_of_bfloat16_stay_so_in_the_backward_pass():
    """A float32 factor would halve the speed of a matrix unit, or quarter it."""

    def run(kernel, *heads):
        tokens = kernels.gelu(kernels.dense(heads[0], kernel))
        return kernels.attend(tokens, *heads[1:]).astype(jnp.float32).sum()

    heads = [jnp.asarray(array, jnp.bfloat16) for array in (QUERY, KEY, VALUE)]
    kernel = jnp.eye(4, dtype=jnp.bfloat16)
    grads = jax.grad(run, argnums=(0, 1, 2, 3))
    text = jax.jit(grads).lower(kernel, *heads).as_text()
    factors = re.findall(r"dot_general .*: \(tensor<(\S+)>, tensor<(\S+)>\)", text)
    assert len(factors) == 3 + 2 + 1 + 4  # dense; attention forward, again, backward
    assert all(kind.endswith("bf16") for pair in factors for kind in pair)
