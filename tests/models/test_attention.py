import jax
import jax.numpy as jnp
import numpy as np
import numpy_vit
import pytest
from flax import nnx
from toys import filled

from rejepa_jax.models import attention
from rejepa_jax.models.vit import Encoder, EncoderSpec

SPEC = EncoderSpec(
    image_size=12,
    patch_size=4,
    bands=2,
    embed_dim=8,
    depth=3,
    num_heads=2,
    mlp_ratio=2.0,
    dtype="float32",
)
maps_of = jax.jit(attention.attention_maps)  # compiled as a whole: sooner done than op by op
IMAGES = np.random.default_rng(1).normal(size=(2, 12, 12, 2)).astype(np.float32)


def make(**changes):
    spec = EncoderSpec(**vars(SPEC) | changes)
    return filled(lambda: Encoder(spec, rngs=nnx.Rngs(0)), seed=5)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def maps_by_hand(image, encoder):
    """All weights [l a k k] of one image, layer by layer, in float64; and the last tokens."""
    arrays, heads = numpy_vit.weights(encoder), SPEC.num_heads
    tokens = numpy_vit.dense(numpy_vit.patches(image, SPEC.patch_size), arrays, "patch_embed")
    tokens = tokens + numpy_vit.positions(SPEC.grid_size, SPEC.embed_dim)
    if "class_token" in arrays:
        tokens = np.concatenate([arrays["class_token"][None], tokens])
    maps, width = [], SPEC.embed_dim // heads
    for layer in range(SPEC.depth):
        here = {n: a[layer] for n, a in arrays.items() if n.startswith("blocks/")}
        normed = numpy_vit.norm(tokens, here, "blocks/norm1")
        query, key, _ = np.split(numpy_vit.dense(normed, here, "blocks/attention/qkv"), 3, axis=1)
        parts = [slice(head * width, (head + 1) * width) for head in range(heads)]
        maps.append([softmax(query[:, p] @ key[:, p].T / width**0.5) for p in parts])
        one_layer = {n: a[layer : layer + 1] for n, a in arrays.items() if n.startswith("blocks/")}
        tokens = numpy_vit.run_blocks(tokens, one_layer, heads)
    return np.array(maps), numpy_vit.norm(tokens, arrays, "norm")


@pytest.mark.parametrize("class_token", [False, True])
def test_weights_and_what_is_made_of_them_equal_numpys(class_token):
    encoder = make(class_token=class_token)
    maps = maps_of(encoder, IMAGES)
    expected = np.stack([maps_by_hand(image, encoder)[0] for image in IMAGES], axis=1)
    assert maps.shape == (3, 2, 2, 9 + class_token, 9 + class_token)
    np.testing.assert_allclose(maps, expected, atol=2e-6)
    row = (lambda a: a[0, 1:] / a[0, 1:].sum()) if class_token else (lambda a: a.mean(0))
    for place, one in enumerate(expected.swapaxes(0, 1)):
        last = attention.last_attention(maps, class_token)[place]
        np.testing.assert_allclose(last, row(one[-1].mean(0)), atol=2e-6)
        mixed = np.linalg.multi_dot([0.5 * a.mean(0) + 0.5 * np.eye(a.shape[1]) for a in one[::-1]])
        rollout = attention.rollout(maps, class_token)[place]
        np.testing.assert_allclose(rollout, row(mixed), atol=2e-6)


def test_weights_are_those_that_the_encoder_mixes_by():
    encoder = make()
    tokens = np.stack([maps_by_hand(image, encoder)[1] for image in IMAGES])
    np.testing.assert_allclose(jax.jit(lambda e, x: e(x))(encoder, IMAGES), tokens, atol=1e-5)


@pytest.mark.parametrize("class_token", [False, True])
def test_shares_sum_to_1(class_token):
    maps = maps_of(make(class_token=class_token), IMAGES)
    for shares in (
        maps,
        attention.rolled(maps),
        attention.last_attention(maps, class_token),
        attention.rollout(maps, class_token),
    ):
        np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
        assert (shares >= 0).all()


def test_what_each_token_keeps_for_itself_stays_where_it_is():
    maps = jnp.broadcast_to(jnp.eye(5), (4, 2, 3, 5, 5))
    np.testing.assert_array_equal(attention.rolled(maps), np.broadcast_to(np.eye(5), (2, 5, 5)))


def test_rollout_by_hand():
    # The first layer hands 0 to 1 and 1 to 2, the second 2 to 0: out of 0 comes ½ 0 (of it half
    # from 1) and ½ 2.
    first = jnp.array([[0.0, 1, 0], [0, 0, 1], [0, 0, 1]])
    second = jnp.array([[0.0, 0, 1], [0, 1, 0], [0, 0, 1]])
    maps = jnp.stack([first, second])[:, None, None]
    expected = [[0.25, 0.25, 0.5], [0, 0.5, 0.5], [0, 0, 1]]
    np.testing.assert_allclose(attention.rolled(maps)[0], expected)
    np.testing.assert_allclose(attention.rollout(maps, False)[0], [0.25 / 3, 0.25, 2 / 3])
    np.testing.assert_allclose(attention.rollout(maps, True)[0], [1 / 3, 2 / 3])


def test_last_attention_is_the_last_layers_mean_over_heads():
    maps = np.zeros((2, 1, 2, 2, 2), np.float32)
    maps[0, ..., 0] = 1  # what the first layer looks at does not count
    maps[1, 0, 0] = [[0, 1], [0.5, 0.5]]
    maps[1, 0, 1] = [[1, 0], [0.5, 0.5]]
    np.testing.assert_allclose(attention.last_attention(jnp.asarray(maps), False), [[0.5, 0.5]])
    np.testing.assert_allclose(attention.last_attention(jnp.asarray(maps), True), [[1]])
