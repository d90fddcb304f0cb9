import jax
import jax.numpy as jnp
import numpy as np
import numpy_step
import numpy_vit
import pytest
from flax import nnx
from toys import QUICK, filled

from rejepa_jax.models.arrays import count_parameters, named_arrays
from rejepa_jax.models.expander import Expander

FEATURES = np.random.default_rng(3).normal(1, 2, (9, 4)).astype(np.float32)
VALID = np.arange(9) % 3 != 1


@pytest.fixture(scope="module")
def expander():
    return filled(lambda: Expander(4, (7, 6, 5), rngs=nnx.Rngs(0)), seed=2)


@pytest.fixture(scope="module")
def run():
    return jax.jit(
        lambda expander, features, valid: expander(features, valid), compiler_options=QUICK
    )


def test_equals_a_numpy_forward(expander, run):
    expected = numpy_step.expand(FEATURES.astype(np.float64), numpy_vit.weights(expander))
    np.testing.assert_allclose(run(expander, FEATURES, None), expected, atol=2e-5)


def test_rows_that_are_not_valid_count_in_no_batch_norm(expander, run):
    features = np.where(VALID[:, None], FEATURES, 1e3).astype(np.float32)
    got = np.asarray(run(expander, features, VALID))[VALID]
    np.testing.assert_allclose(got, run(expander, FEATURES[VALID], None), atol=1e-5)


def test_batch_norm_by_hand():
    # One layer to two numbers of spread 1 around 3: they become -1 and 1, of which ReLU keeps one.
    expander = filled(lambda: Expander(1, (1, 1), rngs=nnx.Rngs(0)))
    arrays = jax.tree.map(jnp.ones_like, expander)
    got = arrays(jnp.array([[2.0], [4.0]]))  # the bias is 1 too
    np.testing.assert_allclose(got, [[0], [2]], atol=1e-4)


def test_a_small_spread_far_from_zero_is_not_lost(expander, run):
    """The mean of squares less the squared mean would be mostly rounding here."""
    features = (100 + 0.01 * FEATURES).astype(np.float32)
    expected = numpy_step.expand(features.astype(np.float64), numpy_vit.weights(expander))
    got = np.asarray(run(expander, features, None), np.float64)
    assert np.linalg.norm(got - expected) < 1e-2 * np.linalg.norm(expected)


def test_collapsed_features_give_finite_gradients(expander):
    slope = jax.jit(jax.grad(lambda x: expander(x).sum()), compiler_options=QUICK)
    assert np.isfinite(slope(jnp.full((9, 4), 30.0))).all()


def test_widths_and_parameters_of_the_published_expander():
    like = jax.eval_shape(lambda: Expander(2048, (8192, 8192, 8192), rngs=nnx.Rngs(0)))
    norms = 2 * 2 * 8192  # of the two hidden layers; no dense layer has a bias
    assert count_parameters(like) == 2048 * 8192 + 2 * 8192**2 + norms
    assert {leaf.dtype for leaf in named_arrays(like).values()} == {jnp.dtype("float32")}
