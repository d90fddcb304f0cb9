import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpy_vit
import pytest
from flax import nnx
from toys import QUICK, filled

from rejepa_jax.models import vit
from rejepa_jax.models.arrays import count_parameters, named_arrays

SPEC = vit.EncoderSpec(16, 4, 3, 16, 2, 2, 4.0, "float32")
BASE = vit.EncoderSpec(224, 16, 12, 768, 12, 12, 4.0, "float32")
rng = np.random.default_rng(1)
IMAGES = rng.normal(size=(2, 16, 16, 3)).astype(np.float32)
# Not in order, not the same for both images.
INDICES = np.array([[3, 0, 12, 7, 9], [15, 1, 2, 14, 5]], np.int32)


@pytest.fixture(scope="module")
def encoder():
    return filled(lambda: vit.Encoder(SPEC, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def run():
    return jax.jit(
        lambda encoder, image, indices, valid=None: encoder(image, indices, valid),
        compiler_options=QUICK,
    )


def expected(encoder, indices):
    arrays = numpy_vit.weights(encoder)
    return [
        numpy_vit.encode(image, arrays, SPEC, index)
        for image, index in zip(IMAGES, indices, strict=True)
    ]


def test_patches_are_cut_row_by_row():
    np.testing.assert_array_equal(
        vit.patchify(jnp.asarray(IMAGES), 4), [numpy_vit.patches(image, 4) for image in IMAGES]
    )


def test_patch_of_a_numbered_image_by_hand():
    image = jnp.arange(32.0).reshape(1, 4, 4, 2)  # pixel (y, x), band c holds 8 y + 2 x + c
    np.testing.assert_array_equal(vit.patchify(image, 2)[0, 1], [4, 5, 6, 7, 12, 13, 14, 15])


def test_gathered_tokens_are_those_at_each_images_own_indices():
    tokens = jnp.arange(24.0).reshape(2, 4, 3)
    gathered = vit.gather_tokens(tokens, jnp.array([[2, 0], [1, 1]]))
    np.testing.assert_array_equal(gathered[0], [[6, 7, 8], [0, 1, 2]])
    np.testing.assert_array_equal(gathered[1], [[15, 16, 17], [15, 16, 17]])


def test_all_tokens_equal_a_numpy_forward(encoder, run):
    tokens = run(encoder, IMAGES, None)
    np.testing.assert_allclose(tokens, expected(encoder, [None, None]), atol=1e-5, rtol=0)


def test_some_tokens_equal_a_numpy_forward_over_them_alone(encoder, run):
    tokens = run(encoder, IMAGES, INDICES)
    np.testing.assert_allclose(tokens, expected(encoder, INDICES), atol=1e-5, rtol=0)


def test_permuting_the_indices_permutes_the_tokens(encoder, run):
    order = np.array([4, 2, 0, 1, 3])
    tokens, permuted = run(encoder, IMAGES, INDICES), run(encoder, IMAGES, INDICES[:, order])
    np.testing.assert_allclose(permuted, tokens[:, order], atol=2e-6, rtol=0)


def test_all_indices_in_order_are_the_whole_image(encoder, run):
    every = np.tile(np.arange(16, dtype=np.int32), (2, 1))
    np.testing.assert_allclose(
        run(encoder, IMAGES, every), run(encoder, IMAGES, None), atol=2e-6, rtol=0
    )


def test_hidden_patches_do_not_reach_the_context(encoder, run):
    tops, lefts = INDICES[0] // 4 * 4, INDICES[0] % 4 * 4
    changed = np.full_like(IMAGES, 1e3)
    for top, left in zip(tops, lefts, strict=True):
        place = (0, slice(top, top + 4), slice(left, left + 4))
        changed[place] = IMAGES[place]
    np.testing.assert_array_equal(
        run(encoder, changed, INDICES)[0], run(encoder, IMAGES, INDICES)[0]
    )


# --- settings beside the default

CHANGES = {
    "class token": {"class_token": True},
    "learned positions": {"positions": "learned"},
    "both, laid out": {"class_token": True, "positions": "learned", "unroll": True},
}
VALID = np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool)


def make(**changes):
    spec = dataclasses.replace(SPEC, **changes)
    return filled(lambda: vit.Encoder(spec, rngs=nnx.Rngs(0)), seed=6)


@pytest.mark.parametrize("change", CHANGES)
def test_each_setting_equals_a_numpy_forward(run, change):
    encoder = make(**CHANGES[change])
    skip = int(encoder.spec.class_token)
    got, wanted = run(encoder, IMAGES, INDICES), expected(encoder, INDICES)
    np.testing.assert_allclose(got, [tokens[skip:] for tokens in wanted], atol=1e-5, rtol=0)


def test_encode_gives_the_class_token_too_and_before_the_others():
    encoder = make(class_token=True)
    encode = jax.jit(lambda encoder, image, indices: encoder.encode(image, indices))
    got = encode(encoder, IMAGES, INDICES)
    assert got.shape == (2, 6, 16)
    np.testing.assert_allclose(got, expected(encoder, INDICES), atol=1e-5, rtol=0)


def test_what_enters_the_first_block_by_hand():
    encoder = make(class_token=True, positions="learned")
    arrays = numpy_vit.weights(encoder)
    patches = numpy_vit.patches(IMAGES[0], 4)[INDICES[0]]
    tokens = patches @ arrays["patch_embed/kernel"] + arrays["patch_embed/bias"]
    tokens += arrays["positions"][INDICES[0]]
    embed = jax.jit(encoder.embed)
    got = embed(IMAGES, INDICES)[0]
    np.testing.assert_allclose(got[0], arrays["class_token"], rtol=1e-6)
    np.testing.assert_allclose(got[1:], tokens, atol=1e-5)


@pytest.mark.parametrize("class_token", [False, True])
def test_tokens_that_are_not_valid_are_not_there(run, class_token):
    """The others come out as if only they had been given, and a class token still sees them."""
    encoder = make(class_token=class_token)
    got = run(encoder, IMAGES, INDICES, VALID)
    kept = [index[keep] for index, keep in zip(INDICES, VALID, strict=True)]
    for tokens, wanted, keep in zip(got, expected(encoder, kept), VALID, strict=True):
        np.testing.assert_allclose(tokens[keep], wanted[int(class_token) :], atol=1e-5, rtol=0)
    other = np.where(VALID, INDICES, 11)
    np.testing.assert_array_equal(run(encoder, IMAGES, other, VALID)[VALID], got[VALID])


def test_blocks_laid_out_give_what_the_loop_gives(encoder, run):
    laid_out = filled(lambda: vit.Encoder(dataclasses.replace(SPEC, unroll=True), rngs=nnx.Rngs(0)))
    np.testing.assert_allclose(
        run(laid_out, IMAGES, INDICES), run(encoder, IMAGES, INDICES), atol=2e-6, rtol=0
    )


def test_parameters_of_a_class_token_and_learned_positions():
    counts = [
        count_parameters(
            jax.eval_shape(
                lambda c=c: vit.Encoder(dataclasses.replace(SPEC, **c), rngs=nnx.Rngs(0))
            )
        )
        for c in ({}, {"class_token": True}, {"positions": "learned"})
    ]
    assert [count - counts[0] for count in counts] == [0, 16, 16 * 16]


def test_bfloat16_activations_keep_float32_parameters_and_stay_close(encoder):
    spec = vit.EncoderSpec(16, 4, 3, 16, 2, 2, 4.0, "bfloat16")
    half = filled(lambda: vit.Encoder(spec, rngs=nnx.Rngs(0)))
    assert {array.dtype for array in named_arrays(half).values()} == {jnp.dtype("float32")}
    tokens = jax.jit(lambda encoder, image: encoder(image))(half, IMAGES)
    assert tokens.dtype == jnp.bfloat16
    error = np.asarray(tokens, np.float64) - expected(encoder, [None, None])
    assert np.sqrt((error**2).mean()) < 0.03  # features have unit spread; bfloat16 holds 3 digits


def test_parameters_of_the_papers_encoder():
    # ViT-B/16 of 12 bands at 224 pixels; the fixed table is counted, as the paper does.
    like = jax.eval_shape(lambda: vit.Encoder(BASE, rngs=nnx.Rngs(0)))
    assert count_parameters(like) + 196 * 768 == 87_566_592


def test_fresh_weights_follow_the_stated_initialisation():
    spec = vit.EncoderSpec(16, 8, 3, 64, 3, 2, 4.0, "float32")
    encoder = jax.jit(lambda: vit.Encoder(spec, rngs=nnx.Rngs(0)))()
    arrays = {name: np.asarray(array) for name, array in named_arrays(encoder).items()}
    for name, array in arrays.items():
        if name.endswith(("bias", "scale")):
            assert (array == name.endswith("scale")).all(), name
    for name in ("attention/qkv", "mlp/up"):
        kernel = arrays[f"blocks/{name}/kernel"]
        assert kernel.std() == pytest.approx(0.02, rel=0.02)
        assert not np.array_equal(kernel[0], kernel[1])
    # The two projections into the residual stream are divided by sqrt(2 layer), from layer 1.
    for name in ("attention/project", "mlp/down"):
        spread = arrays[f"blocks/{name}/kernel"].std(axis=(1, 2))
        wide = arrays["blocks/mlp/up/kernel"].std()
        np.testing.assert_allclose(spread / wide, 1 / np.sqrt([2, 4, 6]), rtol=0.05)
