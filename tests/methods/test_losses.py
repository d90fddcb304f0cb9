import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rejepa_jax.config import Loss
from rejepa_jax.methods import losses

rng = np.random.default_rng(4)
FEATURES = rng.normal(0.3, 0.8, (12, 20)) @ rng.normal(0, 0.5, (20, 20))  # correlated
OTHER = rng.normal(size=(12, 20))
GROUPS = rng.normal(1, 2, (3, 2, 5, 7)), rng.normal(0, 1, (3, 2, 5, 7))


def mean_squared(predicted, target):
    return losses.prediction_loss(predicted, target, Loss())


def invariance(first, second):
    return losses.invariance_loss(first, second, Loss())


def single(array):
    return jnp.asarray(array, jnp.float32)


def test_prediction_is_the_mean_squared_error():
    predicted, target = GROUPS
    total = 0.0
    for image in range(3):
        for group in range(2):
            for token in range(5):
                total += ((predicted[image, group, token] - target[image, group, token]) ** 2).sum()
    loss = jax.jit(mean_squared)(single(predicted), single(target))
    assert float(loss) == pytest.approx(total / (3 * 2 * 5 * 7), rel=1e-5)


def test_prediction_by_hand():
    predicted, target = jnp.zeros((1, 1, 2, 2)), jnp.array([[[[1.0, 2.0], [3.0, 0.0]]]])
    assert float(mean_squared(predicted, target)) == 14 / 4


def test_targets_get_zero_mean_and_unit_variance_over_features():
    tokens = rng.normal(3, 5, (2, 4, 16))
    mean = tokens.mean(-1, keepdims=True)
    variance = ((tokens - mean) ** 2).mean(-1, keepdims=True)
    expected = (tokens - mean) / np.sqrt(variance + 1e-5)
    got = jax.jit(losses.normalise_targets, static_argnums=1)(single(tokens), "layer")
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_epsilon_of_the_target_norm_shows_on_faint_tokens():
    # Variance 1e-6 beside epsilon 1e-5: 0.001 / sqrt(1.1e-5).
    tokens = jnp.array([[[0.001, -0.001]]])
    got = losses.normalise_targets(tokens, "layer")
    np.testing.assert_allclose(got[0, 0], [0.30151134, -0.30151134], rtol=1e-5)


def test_constant_target_token_becomes_zero():
    np.testing.assert_array_equal(losses.normalise_targets(jnp.full((1, 2, 8), 5.0), "layer"), 0)


def test_spread_is_the_unbiased_deviation_of_the_batch():
    expected = np.sqrt(FEATURES.var(axis=0, ddof=1) + 1e-4)
    np.testing.assert_allclose(losses.feature_std(single(FEATURES), 1e-4), expected, rtol=1e-5)


@pytest.mark.parametrize("target", [0.5, 1.0, 3.0])
def test_variance_is_the_mean_hinge(target):
    total = 0.0
    for column in FEATURES.T:
        spread = np.sqrt(((column - column.mean()) ** 2).sum() / (len(column) - 1) + 1e-4)
        total += max(0.0, target - spread)
    loss = jax.jit(losses.variance_loss, static_argnums=(1, 2))(single(FEATURES), target, 1e-4)
    assert float(loss) == pytest.approx(total / 20, rel=1e-5, abs=1e-7)


def test_variance_of_collapsed_features():
    # sqrt(0 + 1e-4) = 0.01 short of 1.
    loss = losses.variance_loss(jnp.ones((6, 5)), 1.0, 1e-4)
    assert float(loss) == pytest.approx(0.99, abs=1e-7)


def test_variance_is_zero_once_every_feature_is_spread():
    assert float(losses.variance_loss(single(100 * OTHER), 1.0, 1e-4)) == 0


def test_gradient_of_the_variance_is_finite_at_collapse():
    gradient = jax.grad(lambda x: losses.variance_loss(x, 1.0, 1e-4))(jnp.ones((6, 5)))
    assert np.isfinite(gradient).all()


def test_covariance_is_the_sum_of_squares_off_the_diagonal():
    d = FEATURES.shape[1]
    total = 0.0
    for i in range(d):
        for j in range(d):
            if i != j:
                a, b = (FEATURES[:, k] - FEATURES[:, k].mean() for k in (i, j))
                total += ((a * b).sum() / (len(FEATURES) - 1)) ** 2
    loss = jax.jit(losses.covariance_loss)(single(FEATURES))
    assert float(loss) == pytest.approx(total / d, rel=1e-5)


def test_covariance_of_two_equal_features_by_hand():
    # Both have variance 2 and covariance 2: (2² + 2²) / 2 features.
    features = jnp.array([[1.0, 1.0], [-1.0, -1.0]])
    assert float(losses.covariance_loss(features)) == pytest.approx(4)


def test_covariance_of_uncorrelated_features_is_zero():
    features = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(losses.covariance_loss(features)) == 0


def test_covariance_of_collapsed_features_is_zero():
    assert float(losses.covariance_loss(jnp.full((6, 5), 0.7))) == 0


def test_covariance_is_blind_to_the_mean():
    shifted = losses.covariance_loss(single(FEATURES + 10))
    assert float(shifted) == pytest.approx(
        float(losses.covariance_loss(single(FEATURES))), rel=1e-4
    )


def test_invariance_is_the_mean_squared_difference():
    total = sum(((a - b) ** 2).sum() for a, b in zip(FEATURES, OTHER, strict=True))
    loss = jax.jit(invariance)(single(FEATURES), single(OTHER))
    assert float(loss) == pytest.approx(total / FEATURES.size, rel=1e-5)


def test_invariance_of_a_pair_with_itself_is_zero():
    assert float(invariance(single(OTHER), single(OTHER))) == 0


@pytest.mark.parametrize("term", ["variance", "covariance", "prediction", "invariance"])
def test_bfloat16_features_are_summed_in_float32(term):
    first, second = (jnp.asarray(x, jnp.bfloat16) for x in (FEATURES, OTHER))
    call = {
        "variance": lambda a, _: losses.variance_loss(a, 5.0, 1e-4),
        "covariance": lambda a, _: losses.covariance_loss(a),
        "prediction": mean_squared,
        "invariance": invariance,
    }[term]
    wide = call(first.astype(jnp.float32), second.astype(jnp.float32))
    got = call(first, second)
    assert got.dtype == jnp.float32
    assert float(got) == float(wide)


@pytest.mark.parametrize("kind", ["l2", "smooth_l1", "l1"])
@pytest.mark.parametrize("reduction", ["mean", "sum_dim"])
def test_every_distance_over_valid_targets_only(kind, reduction):
    predicted, target = GROUPS
    valid = np.random.default_rng(1).random((3, 2, 5)) < 0.6
    total = 0.0
    for place in zip(*np.nonzero(valid), strict=True):
        error = np.abs(predicted[place] - target[place])
        huber = [0.5 * e * e if e < 1 else e - 0.5 for e in error]
        features = {"l2": error**2, "smooth_l1": np.array(huber), "l1": error}[kind]
        total += features.sum() / (7 if reduction == "mean" else 1)
    got = losses.prediction_loss(
        single(predicted), single(target), Loss(kind, reduction), jnp.asarray(valid)
    )
    assert float(got) == pytest.approx(total / valid.sum(), rel=1e-5)


def test_batch_norm_of_targets_is_over_all_tokens_of_a_feature():
    tokens = rng.normal(3, 5, (2, 4, 16))
    flat = tokens.reshape(8, 16)
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    got = losses.normalise_targets(single(tokens), "batch")
    np.testing.assert_allclose(got.reshape(8, 16), expected, atol=3e-6)
    np.testing.assert_array_equal(losses.normalise_targets(single(tokens), "none"), single(tokens))


def test_pooling_by_hand():
    tokens = jnp.array([[[1.0, 4.0], [3.0, 4.0], [100.0, -100.0]]])
    valid = jnp.array([[True, True, False]])
    np.testing.assert_allclose(losses.pool(tokens, valid), [[2, 4]])
    # The deviations are 1 and 0, and 1e-4 is added to their squares.
    both = losses.pool(tokens, valid, "mean_std")
    np.testing.assert_allclose(both, [[2, 4, np.sqrt(1.0001), 0.01]], rtol=1e-5)


def test_spread_and_covariance_of_valid_rows_are_those_of_the_rows_alone():
    valid = np.arange(12) % 3 > 0
    rows = single(FEATURES[valid])
    mixed = single(np.where(valid[:, None], FEATURES, 1e3))
    flags = jnp.asarray(valid)
    np.testing.assert_allclose(
        losses.feature_std(mixed, 0.0, flags), losses.feature_std(rows, 0.0), rtol=2e-5
    )
    assert float(losses.covariance_loss(mixed, flags)) == pytest.approx(
        float(losses.covariance_loss(rows)), rel=2e-5
    )


def test_an_image_without_a_valid_token_pools_to_zero():
    tokens, valid = jnp.ones((2, 3, 4)), jnp.array([[False] * 3, [True] * 3])
    np.testing.assert_array_equal(losses.pool(tokens, valid), [[0] * 4, [1] * 4])


def test_batch_norm_of_targets_counts_valid_tokens_only():
    tokens = rng.normal(3, 5, (2, 4, 16))
    valid = np.arange(8).reshape(2, 4) % 3 > 0
    flat = tokens[valid]
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    got = losses.normalise_targets(single(tokens), "batch", jnp.asarray(valid))
    np.testing.assert_allclose(np.asarray(got)[valid], expected, atol=3e-6)
