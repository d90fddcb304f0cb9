import jax
import jax.numpy as jnp
import numpy as np
import numpy_vit
import pytest
from flax import nnx
from toys import QUICK, filled

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


# Entries that are not valid are wrong on purpose: targets are context, a token is there twice.
PADDED = MASKS | {
    "context_valid": np.array([[1, 1, 1, 1, 0], [1, 1, 0, 1, 1]], bool),
    "target_valid": np.array([[[1, 1, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 1]]], bool),
}


def make(mode="per_group", **settings):
    """Predictors of one shape have the same weights."""
    spec = PredictorSpec(8, 2, num_heads=2, outputs=16, mode=mode, **settings)
    return filled(lambda: Predictor(spec, ENCODER, rngs=nnx.Rngs(0)), seed=3)


@pytest.fixture(scope="module")
def predictor():
    return make()


@pytest.fixture(scope="module")
def run():
    return jax.jit(
        lambda predictor, context, masks: predictor(
            jnp.asarray(context), jax.tree.map(jnp.asarray, masks)
        ),
        compiler_options=QUICK,
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


MODES = {
    "joint": ("joint", "joint"),
    "per group": ("per_group", "joint"),
    "per token": ("per_token", "joint"),
    "independent": ("joint", "independent"),
    "independent groups": ("per_group", "independent"),
}


@pytest.fixture(scope="module")
def predicted(run):
    """The predictions of each mode, all of whose entries are valid, or of padded masks."""
    known = {}

    def get(mode, masks=MASKS):
        key = mode, masks["target_valid"] is None
        if key not in known:
            asking, attention = MODES[mode]
            known[key] = run(make(asking, query_attention=attention), CONTEXT, masks)
        return np.asarray(known[key])

    return get


def derive(mode, masks=MASKS):
    """Each target by numpy, over the valid tokens only; nan where it is not valid."""
    arrays, (asking, attention) = numpy_vit.weights(make()), MODES[mode]
    out = np.full((*masks["target"].shape, 16), np.nan)
    for image, (tokens, seen) in enumerate(zip(CONTEXT, masks["context"], strict=True)):
        keep = np.ones(5, bool) if masks["context_valid"] is None else masks["context_valid"][image]
        valid = masks["target_valid"]
        valid = np.ones((2, 3), bool) if valid is None else valid[image]
        places = list(zip(*np.nonzero(valid), strict=True))  # (group, entry) of each call
        calls = {
            "joint": [places],
            "per_group": [[place for place in places if place[0] == group] for group in (0, 1)],
            "per_token": [[place] for place in places],
        }[asking]
        for call in calls:
            asked = [masks["target"][image][place] for place in call]
            rows = numpy_vit.predict(
                tokens[keep], seen[keep], asked, arrays, 4, 2, attention == "independent"
            )
            for place, row in zip(call, rows, strict=True):
                out[image][place] = row
    return out


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_equals_numpy(predicted, mode):
    np.testing.assert_allclose(predicted(mode), derive(mode), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["joint", "per group", "independent"])
def test_entries_that_are_not_valid_are_not_there(predicted, mode):
    expected = derive(mode, PADDED)
    got = predicted(mode, PADDED)[PADDED["target_valid"]]
    assert not np.isnan(expected[PADDED["target_valid"]]).any()
    np.testing.assert_allclose(got, expected[PADDED["target_valid"]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["joint", "per group"])
def test_whatever_stands_in_an_entry_that_is_not_valid(predicted, run, mode):
    other = jax.tree.map(np.copy, PADDED)
    other["context"][~other["context_valid"]] = 11
    other["target"][~other["target_valid"]] = 5
    got = run(make(MODES[mode][0]), CONTEXT, other)
    valid = PADDED["target_valid"]
    np.testing.assert_array_equal(np.asarray(got)[valid], predicted(mode, PADDED)[valid])


def test_groups_of_a_joint_call_are_one_group_of_all(predicted, run):
    together = MASKS | {"target": MASKS["target"].reshape(2, 1, 6)}
    for mode in ("joint", "per_group"):
        one = np.asarray(run(make(mode), CONTEXT, together)).reshape(2, 2, 3, 16)
        np.testing.assert_allclose(one, predicted("joint"), atol=2e-6, rtol=0)
    assert np.abs(predicted("joint") - predicted("per group")).max() > 1e-3


@pytest.mark.parametrize("mode", ["per token", "independent", "independent groups"])
def test_a_token_is_predicted_alike_whatever_else_is_asked_for(predicted, run, mode):
    asking, attention = MODES[mode]
    other = MASKS["target"].copy()
    other[:, :, 1:] = 11
    changed = run(make(asking, query_attention=attention), CONTEXT, MASKS | {"target": other})
    np.testing.assert_array_equal(changed[:, :, 0], predicted(mode)[:, :, 0])
    assert np.abs(changed[:, :, 1:] - predicted(mode)[:, :, 1:]).max() > 1e-3


def test_joint_targets_see_one_another(predicted, run):
    other = MASKS["target"].copy()
    other[:, :, 1:] = 11
    changed = run(make("joint"), CONTEXT, MASKS | {"target": other})
    assert np.abs(changed[:, :, 0] - predicted("joint")[:, :, 0]).max() > 1e-3


def test_a_class_token_before_the_context_has_no_position(run):
    extra = np.random.default_rng(4).normal(size=(2, 1, 16)).astype(np.float32)
    tokens = np.concatenate([extra, CONTEXT], axis=1)
    got = run(make("joint"), tokens, PADDED)
    arrays = numpy_vit.weights(make())
    for image in range(2):
        keep = PADDED["context_valid"][image]
        expected = numpy_vit.predict(
            np.concatenate([extra[image], CONTEXT[image][keep]]),
            PADDED["context"][image][keep],
            PADDED["target"][image][PADDED["target_valid"][image]],
            arrays,
            4,
            2,
        )
        valid = PADDED["target_valid"][image]
        np.testing.assert_allclose(got[image][valid], expected, atol=1e-5, rtol=0)


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
