import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toys import filled

from rejepa_jax.models.arrays import count_parameters, named_arrays, with_arrays
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.types import DataError

SPEC = EncoderSpec(16, 8, 3, 16, 2, 2, 4.0, "float32")


@pytest.fixture(scope="module")
def encoder():
    return filled(lambda: Encoder(SPEC, rngs=nnx.Rngs(0)))


def test_names_are_paths_without_the_boxes_of_the_library(encoder):
    names = set(named_arrays({"context_encoder": encoder, "moments": (encoder.norm,)}))
    assert "context_encoder/blocks/mlp/up/kernel" in names
    assert "context_encoder/patch_embed/bias" in names
    assert "moments/0/scale" in names


def test_names_are_unique(encoder):
    assert len(named_arrays(encoder)) == len(jax.tree.leaves(encoder)) == 16


def test_replacing_every_array_by_name_is_a_round_trip(encoder):
    arrays = named_arrays(encoder)
    doubled = with_arrays(encoder, {name: 2 * array for name, array in arrays.items()}, "here")
    assert isinstance(doubled, Encoder)
    for name, array in named_arrays(doubled).items():
        np.testing.assert_array_equal(array, 2 * arrays[name])


def test_order_of_the_given_arrays_does_not_matter(encoder):
    arrays = named_arrays(encoder)
    backwards = dict(reversed(arrays.items()))
    again = named_arrays(with_arrays(encoder, backwards, "here"))
    assert all(again[name] is array for name, array in arrays.items())


def test_missing_array_is_named(encoder):
    arrays = named_arrays(encoder)
    del arrays["norm/bias"]
    with pytest.raises(DataError, match=r"w\.safetensors: array 'norm/bias' is missing"):
        with_arrays(encoder, arrays, "w.safetensors")


def test_left_over_array_is_named(encoder):
    arrays = named_arrays(encoder) | {"head/kernel": jnp.zeros(3)}
    with pytest.raises(DataError, match=r"'head/kernel' is not expected in the file"):
        with_arrays(encoder, arrays, "w.safetensors")


def test_wrong_shape_is_named(encoder):
    arrays = named_arrays(encoder) | {"norm/scale": jnp.zeros(17)}
    with pytest.raises(DataError, match=r"'norm/scale' is float32\[17\], expected float32\[16\]"):
        with_arrays(encoder, arrays, "w.safetensors")


def test_wrong_dtype_is_named(encoder):
    arrays = named_arrays(encoder) | {"norm/scale": jnp.zeros(16, jnp.bfloat16)}
    with pytest.raises(DataError, match=r"'norm/scale' is bfloat16\[16\], expected float32"):
        with_arrays(encoder, arrays, "w.safetensors")


def test_shapes_without_arrays_can_be_filled():
    like = jax.eval_shape(lambda: {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4, jnp.int32)})
    arrays = {"a": jnp.ones((2, 3)), "b": jnp.arange(4)}
    out = with_arrays(like, arrays, "here")
    np.testing.assert_array_equal(out["b"], [0, 1, 2, 3])
    assert count_parameters(like) == count_parameters(out) == 10


def test_count_by_hand(encoder):
    # Patch embedding, two blocks (norms, qkv, projection, MLP), final norm.
    block = 2 * 32 + (16 * 48 + 48) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)
    assert count_parameters(encoder) == (192 * 16 + 16) + 2 * block + 32
