"""What `test_oracle` leaves open of REJEPA: stop-gradient, collapse, the parts by their names."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import QUICK, filled, toy_config

from rejepa_jax.methods import masking
from rejepa_jax.methods.build import build_method
from rejepa_jax.methods.rejepa import Rejepa
from rejepa_jax.models.arrays import count_parameters, named_arrays
from rejepa_jax.resolve import resolve

CHOICES = ("none", "pred_target", "two_view")
WEIGHTS = {
    "weight": 0.01,
    "std_target": 1.2,
    "variance_weight": 7.0,
    "covariance_weight": 3.0,
    "invariance_weight": 5.0,
}
IMAGES = np.random.default_rng(5).normal(size=(12, 16, 16, 3)).astype(np.float32)


jitted = partial(jax.jit, compiler_options=QUICK)


def method_of(invariance):
    return build_method(toy_config(vicreg=WEIGHTS | {"invariance": invariance}), bands=3)


def views_of(method):
    """The same twelve images, or six in two views."""
    return tuple({"s2": jnp.asarray(part)} for part in np.split(IMAGES, method.views))


@pytest.fixture(scope="module")
def params():
    return filled(lambda: method_of("none").init(jax.random.key(0)), seed=1)


@pytest.fixture(scope="module")
def average():
    return filled(lambda: method_of("none").init(jax.random.key(0)), seed=2)["context_encoder"]


def test_only_the_two_view_term_asks_for_two_views():
    assert [method_of(choice).views for choice in CHOICES] == [1, 1, 2]


@pytest.fixture(scope="module")
def gradients():
    """Gradients of one objective, of parameters and target encoder."""
    method, key = method_of("pred_target"), jax.random.key(3)
    loss = lambda *trees: method.loss(*trees, views_of(method), key)[0]  # noqa: E731
    return jitted(jax.grad(loss, argnums=(0, 1)))


def test_no_gradient_reaches_the_target_encoder(params, average, gradients):
    for name, leaf in named_arrays(gradients(params, average)[1]).items():
        np.testing.assert_array_equal(leaf, 0, name)


def test_every_trained_array_gets_a_gradient(params, average, gradients):
    for name, leaf in named_arrays(gradients(params, average)[0]).items():
        assert np.abs(leaf).max() > 0, name


def test_gradient_is_finite_when_all_features_have_collapsed(params, average, gradients):
    constant = jax.tree.map(jnp.zeros_like, params)
    for name, leaf in named_arrays(gradients(constant, average)[0]).items():
        assert np.isfinite(leaf).all(), name


def test_without_weight_only_the_prediction_counts(params, average):
    method = build_method(toy_config(vicreg=WEIGHTS | {"weight": 0.0}), bands=3)
    loss, metrics = jitted(method.loss)(params, average, views_of(method), jax.random.key(3))
    assert float(loss) == float(metrics["prediction_loss"])
    assert float(metrics["vicreg_loss"]) > 0  # still watched


def test_loss_is_the_mean_over_the_pairs_of_masks(monkeypatch, params, average):
    """Each pair's part is put in its place by a number that only its masks decide."""

    def part(_method, _params, _average, _image, masks, _full):
        return {"loss": jnp.float32(masks["context"]), "other": jnp.float32(masks["target"])}

    pairs = [{"context": context, "target": target} for context, target in ((1, 7), (2, 5), (9, 0))]
    method = build_method(toy_config(target={"input": "target_patches"}), bands=3)
    monkeypatch.setattr(Rejepa, "_masked_loss", part)
    monkeypatch.setattr(masking, "sample_masks", lambda *_: tuple(pairs))
    loss, metrics = method.loss(params, average, views_of(method), jax.random.key(3))
    assert float(loss) == float(metrics["loss"]) == 4
    assert float(metrics["other"]) == 4


def test_encoders_and_average_are_the_parts_they_are_named_after(params, average):
    method = method_of("none")
    assert method.averaged(params) is params["context_encoder"]
    encoders = method.encoders(params, average)
    assert encoders == {"target": average, "context": params["context_encoder"]}


def test_parameters_of_the_paper():
    # 224 pixels, 12 bands, ViT-B/16, predictor of 12 layers; with fixed tables, as in the paper.
    method = build_method(resolve({}), bands=12)
    params = jax.eval_shape(lambda: method.init(jax.random.key(0)))
    encoder = count_parameters(params["context_encoder"]) + 196 * 768
    predictor = count_parameters(params["predictor"]) + 196 * 384
    assert (encoder, predictor) == (87_566_592, 21_960_960)
    assert 2 * encoder + predictor == 197_094_144
