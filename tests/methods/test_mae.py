"""What `test_oracle` leaves open of MAE: targets by hand, sizes, the answers to the trainer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import toy_config

from rejepa_jax.config import base_config
from rejepa_jax.methods import masking
from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.resolve import resolve

DECODER = {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2}
# Sixteen patches of 4 pixels, one band: twelve of them are hidden.
SMALL = {"data": {"image_size": 8}, "model": {"patch_size": 2}, "mae": DECODER}
METHOD = build_method(toy_config("mae", **SMALL), bands=1)


def test_a_target_patch_by_hand():
    # Mean 3, deviations -2 0 0 2: the unbiased variance is 8 / 3.
    image = jnp.tile(jnp.array([[1.0, 3.0], [3.0, 5.0]]), (4, 4))[None, :, :, None]
    expected = np.array([-2, 0, 0, 2]) / np.sqrt(8 / 3 + 1e-6)
    np.testing.assert_allclose(METHOD._pixels(image)[0], np.tile(expected, (16, 1)), rtol=1e-6)


def test_a_patch_without_contrast_becomes_zero():
    np.testing.assert_array_equal(METHOD._pixels(jnp.full((1, 8, 8, 1), 7.0)), 0)


def test_pixels_as_they_are_without_normalisation():
    image = jnp.arange(64.0).reshape(1, 8, 8, 1)
    plain = dataclasses.replace(METHOD, norm_pix=False)
    np.testing.assert_array_equal(plain._pixels(image)[0, 1], [2, 3, 10, 11])


@pytest.mark.parametrize(
    ("image_size", "patch_size", "counts"),
    [(224, 16, (49, 147)), (128, 16, (16, 48)), (120, 15, (16, 48)), (96, 8, (36, 108))],
)
def test_three_quarters_are_hidden(image_size, patch_size, counts):
    config = base_config("mae")
    config.data.image_size, config.model.patch_size = image_size, patch_size
    method = build_method(resolve(config), bands=3)
    assert masking.token_counts(method.encoder.num_tokens, method.mask) == counts


def test_it_has_one_encoder_one_view_and_no_average():
    params, other = (jax.eval_shape(lambda: METHOD.init(jax.random.key(0))) for _ in range(2))
    assert METHOD.views == 1
    assert METHOD.averaged(params) is None
    assert METHOD.encoders(params, None) == {"encoder": params["encoder"]}
    started = METHOD.start_from(params, other["encoder"])
    assert started["encoder"] is other["encoder"]
    assert started["decoder"] is params["decoder"]


@pytest.mark.parametrize(
    ("image_size", "patch_size", "bands", "count"),
    [
        (224, 16, 3, 111_655_680),  # ViT-B/16 with a 512-d x 8 decoder
        # The paper's "224.87 M" are these two, one a sensor, and two tables of 65 x 512 positions.
        pytest.param(120, 15, 2, 111_248_322, marks=pytest.mark.slow),
        pytest.param(120, 15, 10, 113_554_122, marks=pytest.mark.slow),
    ],
)
def test_parameters_of_the_published_model(image_size, patch_size, bands, count):
    config = base_config("mae")
    config.data.image_size, config.model.patch_size = image_size, patch_size
    method = build_method(resolve(config), bands)
    assert count_parameters(jax.eval_shape(lambda: method.init(jax.random.key(0)))) == count
