import jax
import jax.numpy as jnp
import numpy as np
import numpy_vit
import pytest
from flax import nnx
from toys import filled

from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.models.predictor import Predictor, PredictorSpec
from rejepa_jax.models.vit import EncoderSpec

ENCODER = EncoderSpec(16, 4, 3, 16, 2, 2, 4.0, "float32")
BASE = EncoderSpec(224, 16, 12, 768, 12, 12, 4.0, "float32")
CONTEXT = np.random.default_rng(2).normal(size=(2, 5, 16)).astype(np.float32)
# Two images, two groups of three targets each.
MASKS = {
    "context": np.array([[3, 0, 12, 7, 9], [15, 1, 2, 14, 5]], np.int32),
    "target": np.array(
        [[[1, 2, 4], [15, 14, 13]], [[0, 3, 4], [6, 8, 10]]],
        np.int32,
    ),
    "context_valid": None,
    "target_valid": None,
}


@pytest.fixture(scope="module")
def predictor():
    spec = PredictorSpec(8, 2, num_heads=2, outputs=16, mode="per_group")
    return filled(lambda: Predictor(spec, ENCODER, rngs=nnx.Rngs(0)), seed=3)


@pytest.fixture(scope="module")
def run():
    return jax.jit(
        lambda predictor, context, masks: predictor(
            jnp.asarray(context), jax.tree.map(jnp.asarray, masks)
        )
    )


def test_equals_a_numpy_forward_of_each_group(predictor, run):
    predicted = run(predictor, CONTEXT, MASKS)
    arrays = numpy_vit.weights(predictor)
    for image in range(2):
        for group in range(2):
            expected = numpy_vit.predict(
                CONTEXT[image],
                MASKS["context"][image],
                MASKS["target"][image, group],
                arrays,
                grid_size=4,
                heads=2,
            )
            np.testing.assert_allclose(predicted[image, group], expected, atol=1e-5, rtol=0)


def test_permuting_the_context_changes_nothing(predictor, run):
    order = np.array([4, 2, 0, 1, 3])
    permuted = MASKS | {"context": MASKS["context"][:, order]}
    np.testing.assert_allclose(
        run(predictor, CONTEXT[:, order], permuted),
        run(predictor, CONTEXT, MASKS),
        atol=2e-6,
        rtol=0,
    )


def test_permuting_the_targets_permutes_the_predictions(predictor, run):
    order = np.array([2, 0, 1])
    permuted = MASKS | {"target": MASKS["target"][:, :, order]}
    np.testing.assert_allclose(
        run(predictor, CONTEXT, permuted),
        run(predictor, CONTEXT, MASKS)[:, :, order],
        atol=2e-6,
        rtol=0,
    )


def test_groups_do_not_see_one_another(predictor, run):
    other = MASKS["target"].copy()
    other[:, 1] = [[8, 10, 11], [7, 9, 11]]
    before, after = (
        run(predictor, CONTEXT, MASKS),
        run(predictor, CONTEXT, MASKS | {"target": other}),
    )
    np.testing.assert_array_equal(after[:, 0], before[:, 0])
    assert np.abs(after[:, 1] - before[:, 1]).min(axis=2).max() > 1e-4


def test_where_the_context_lies_matters(predictor, run):
    moved = MASKS | {"context": MASKS["context"][::-1]}
    difference = run(predictor, CONTEXT, moved) - run(predictor, CONTEXT, MASKS)
    assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize(
    ("depth", "count"), [(6, 11_314_176), (8, 14_863_104), (10, 18_412_032), (12, 21_960_960)]
)
def test_parameters_of_the_papers_predictors(depth, count):
    spec = PredictorSpec(384, depth, num_heads=12, outputs=768)
    like = jax.eval_shape(lambda: Predictor(spec, BASE, rngs=nnx.Rngs(0)))
    assert count_parameters(like) + 196 * 384 == count  # with the fixed table, as the paper does
