"""VICReg's terms beside a numpy derivation, on one device and on a batch that lies on two."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_step
import numpy_vit
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from toys import QUICK, filled, toy_config

from rejepa_jax.methods.vicreg import vicreg_terms
from rejepa_jax.models.expander import Expander

IMAGES, CONTEXT, GROUPS, TARGETS, DIM = 32, 3, 2, 2, 5
WEIGHTS = {
    "std_target": 1.5,
    "variance_weight": 7.0,
    "covariance_weight": 3.0,
    "invariance_weight": 5.0,
}
rng = np.random.default_rng(9)
MIX = rng.normal(0, 0.6, (DIM, DIM))  # features hang together
# Images differ, and so do the shares of the batch that lie on different devices.
LEVEL = rng.normal(0, 0.7, (IMAGES, 1, DIM)) + np.linspace(-1, 1, IMAGES)[:, None, None]
TOKENS = {
    "context": (LEVEL + rng.normal(0, 0.5, (IMAGES, CONTEXT, DIM))) @ MIX,
    "predicted": (LEVEL + rng.normal(0, 1, (IMAGES, GROUPS * TARGETS, DIM))) @ MIX,
    "target": rng.normal(0, 1, (IMAGES, GROUPS * TARGETS, DIM)),
}
VALID = {
    "context_valid": rng.random((IMAGES, CONTEXT)) < 0.7,
    "target_valid": rng.random((IMAGES, GROUPS, TARGETS)) < 0.7,
}
VALID["context_valid"][:, 0] = VALID["target_valid"][:, 0, 0] = True
INDICES = {
    "context": np.zeros((IMAGES, CONTEXT), np.int32),
    "target": np.zeros((IMAGES, GROUPS, TARGETS), np.int32),
}
ALL = {name: np.ones_like(valid) for name, valid in VALID.items()}


def settings(reduction="mean", **changes):
    return toy_config(vicreg=WEIGHTS | changes, loss={"reduction": reduction})


def compute(config, valid, place=lambda array: array, expander=None):
    """Terms, and the gradients of their sum by context and predictions."""
    masks = INDICES | (dict.fromkeys(VALID) if valid is ALL else jax.tree.map(jnp.asarray, valid))

    def total(context, predicted, target):
        groups = (x.reshape(IMAGES, GROUPS, TARGETS, DIM) for x in (predicted, target))
        terms = vicreg_terms(config.vicreg, config.loss, expander, context, *groups, masks)
        return terms["vicreg_loss"], terms

    step = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
    given = [place(np.asarray(array, np.float32)) for array in TOKENS.values()]
    (_, terms), slopes = jax.jit(step, compiler_options=QUICK)(*given)
    return terms, dict(zip(("context", "predicted"), slopes, strict=True))


def derive(config, valid, expander=None):
    """The same in float64, from lists of each image's valid tokens."""
    arrays = {} if expander is None else numpy_vit.weights(expander)
    kept = [valid["context_valid"], *[valid["target_valid"].reshape(IMAGES, -1)] * 2]

    def terms(tokens):
        rows = [
            [tokens[name][..., image, keep, :] for image, keep in enumerate(keeps)]
            for name, keeps in zip(TOKENS, kept, strict=True)
        ]
        out = numpy_step.vicreg_terms(config, *rows, arrays)
        parts = ("variance", "covariance", "invariance")
        weights = [getattr(config.vicreg, f"{part}_weight") for part in parts]
        losses = [out[f"{part}_loss"] for part in parts]
        return out | {"vicreg_loss": sum(w * x for w, x in zip(weights, losses, strict=True))}

    free = {name: TOKENS[name] for name in ("context", "predicted")}
    slopes = numpy_step.gradients(lambda given: terms(TOKENS | given)["vicreg_loss"], free)
    return terms(TOKENS), slopes


def assert_equal(got, expected):
    (terms, slopes), (wanted, wanted_slopes) = got, expected
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-7), name
    for name, slope in wanted_slopes.items():
        norm = np.linalg.norm(slope)
        assert np.linalg.norm(np.asarray(slopes[name]) - slope) <= 1e-5 * norm, name


CASES = {
    "context": (ALL, {}),
    "prediction": (VALID, {"on": ("prediction",), "invariance": "none"}),
    "tokens": (VALID, {"on": ("context_tokens",), "reduction": "sum_dim"}),
    "two views": (VALID, {"invariance": "two_view", "on": ("context", "context_tokens")}),
    "deviations": (VALID, {"invariance": "two_view", "pool": "mean_std", "reduction": "sum_dim"}),
}


@pytest.mark.parametrize("case", CASES)
def test_terms_and_gradients_equal_numpy(case):
    valid, changes = CASES[case]
    config = settings(**changes)
    assert_equal(compute(config, valid), derive(config, valid))


def test_a_batch_on_two_devices_is_one_batch():
    """Rows of both count in each mean, variance and covariance, and in their gradients."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    places = NamedSharding(mesh, PartitionSpec("data"))
    on = ("context", "prediction", "context_tokens")
    config = settings(on=on)
    got = compute(config, VALID, lambda array: jax.device_put(array, places))
    assert len(got[1]["context"].sharding.device_set) == 2
    expected = derive(config, VALID)
    assert_equal(got, expected)
    # It would be seen if each device looked at its own half only.
    halves = [rows[: IMAGES // 2] for rows in (TOKENS["context"].mean(1), TOKENS["target"])]
    assert abs(numpy_step.variance(halves[0], 1.5, 1e-4) - expected[0]["variance_loss"]) > 1e-2


def test_statistics_per_device_are_the_mean_over_shares():
    count = jax.device_count()
    terms, _ = compute(settings(stats="per_device"), ALL)
    shares = np.split(TOKENS["context"].mean(1), count)
    for name, term in (
        ("variance_loss", lambda x: numpy_step.variance(x, 1.5, 1e-4)),
        ("covariance_loss", numpy_step.covariance),
    ):
        expected = np.mean([term(share) for share in shares])
        assert float(terms[name]) == pytest.approx(expected, rel=1e-5)
        whole = term(TOKENS["context"].mean(1))
        assert abs(whole - expected) > 1e-2 * whole


def test_shares_are_those_of_the_devices_that_split_the_batch():
    """Of 2 x 2 x 2 devices those along `tensor` have the same images."""
    mesh = jax.sharding.AbstractMesh((2, 2, 2), ("data", "fsdp", "tensor"))

    def terms():
        with jax.sharding.use_abstract_mesh(mesh):
            masks = INDICES | dict.fromkeys(VALID)
            tokens = [jnp.asarray(array, jnp.float32) for array in TOKENS.values()]
            groups = [x.reshape(IMAGES, GROUPS, TARGETS, DIM) for x in tokens[1:]]
            config = settings(stats="per_device")
            return vicreg_terms(config.vicreg, config.loss, None, tokens[0], *groups, masks)

    shares = np.split(TOKENS["context"].mean(1), 4)
    expected = np.mean([numpy_step.covariance(share) for share in shares])
    got = jax.jit(terms, compiler_options=QUICK)()
    assert float(got["covariance_loss"]) == pytest.approx(expected, rel=1e-5)


def test_shares_are_taken_within_each_view():
    terms, _ = compute(settings(stats="per_device", invariance="two_view"), ALL)
    shares = np.split(TOKENS["context"].mean(1), 2 * jax.device_count())
    assert len(shares[0]) == 2
    expected = np.mean([numpy_step.covariance(share) for share in shares])
    assert float(terms["covariance_loss"]) == pytest.approx(expected, rel=1e-5)


def test_an_expander_stands_before_every_term_and_sees_valid_rows_only():
    expander = filled(lambda: Expander(DIM, (7, 5), rngs=nnx.Rngs(0)), seed=4)
    config = settings(on=("context", "context_tokens"), expander=(7, 5))
    got, expected = compute(config, VALID, expander=expander), derive(config, VALID, expander)
    for name, value in expected[0].items():
        assert float(got[0][name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


def test_terms_by_hand():
    """Two images, two features: rows (1, 1) and (-1, -1), guesses 0, truths (3, 0)."""
    masks = {"context": np.zeros((2, 1), int), "target": np.zeros((2, 1, 1), int)}
    config = settings(eps=0.0, std_target=2.0)
    tokens = (
        jnp.array([[[1.0, 1.0]], [[-1.0, -1.0]]]),
        jnp.zeros((2, 1, 1, 2)),
        jnp.array([[[[3.0, 0.0]]], [[[3.0, 0.0]]]]),
    )
    masks |= dict.fromkeys(VALID)
    run = jax.jit(lambda *tokens: vicreg_terms(config.vicreg, config.loss, None, *tokens, masks))
    terms = run(*tokens)
    expected = {
        "variance_loss": 2 - 2**0.5,  # variance 2 with n - 1
        "covariance_loss": 4.0,  # (2² + 2²) / 2
        "invariance_loss": 4.5,  # 9 / 2
        "context_std": 2**0.5,
        "vicreg_loss": 7 * (2 - 2**0.5) + 3 * 4 + 5 * 4.5,
    }
    assert {name: float(x) for name, x in terms.items()} == pytest.approx(expected, rel=1e-6)
