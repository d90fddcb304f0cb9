import dataclasses

import jax
import numpy as np
import numpy_vit
import pytest
import toys
from flax import nnx

from rejepa_jax.models.arrays import named_arrays, with_arrays
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.pooling import POOLS

SPEC = EncoderSpec(16, 4, 2, 16, 2, 2, 4.0, "float32")
IMAGE = np.random.default_rng(0).normal(size=(2, 16, 16, 2)).astype(np.float32)


def make(**changes):
    spec = dataclasses.replace(SPEC, **changes)
    return toys.filled(lambda: Encoder(spec, rngs=nnx.Rngs(0)), seed=1)


def pool(name, encoder):
    return np.asarray(jax.jit(POOLS[name])(encoder, IMAGE))


@pytest.fixture(scope="module")
def encoder():
    return make()


@pytest.fixture(scope="module")
def tokens(encoder):
    """The tokens of both images, by numpy."""
    arrays = numpy_vit.weights(encoder)
    return np.stack([numpy_vit.encode(image, arrays, SPEC) for image in IMAGE])


def test_mean(encoder, tokens):
    np.testing.assert_allclose(pool("mean", encoder), tokens.mean(1), atol=1e-5)


def test_gem_keeps_the_sign_of_the_mean_cube(encoder, tokens):
    cubes = (tokens**3).mean(1)
    expected = np.sign(cubes) * np.abs(cubes) ** (1 / 3)
    assert (expected < 0).any()
    assert (expected > 0).any()
    np.testing.assert_allclose(pool("gem", encoder), expected, atol=1e-4)


def test_deviations_follow_the_mean(encoder, tokens):
    got = pool("mean_std", encoder)
    np.testing.assert_allclose(got[:, :16], tokens.mean(1), atol=1e-5)
    np.testing.assert_allclose(got[:, 16:], np.sqrt(tokens.var(1) + 1e-4), atol=1e-5)


def test_equal_tokens_by_hand(encoder):
    # A final norm of scale 0 and bias -2 makes every token -2: so is any mean of them.
    arrays = {name: np.asarray(array) for name, array in named_arrays(encoder).items()}
    arrays |= {"norm/scale": 0 * arrays["norm/scale"], "norm/bias": 0 * arrays["norm/bias"] - 2}
    constant = with_arrays(encoder, arrays, "test")
    for name in POOLS:
        np.testing.assert_allclose(pool(name, constant)[:, :16], np.full((2, 16), -2), atol=1e-6)


def looks(image, encoder, spec):
    """Each patch's share of the last block's attention, and the tokens, by numpy."""
    arrays = numpy_vit.weights(encoder)
    x = numpy_vit.dense(numpy_vit.patches(image, 4), arrays, "patch_embed")
    x = x + numpy_vit.positions(4, 16)
    if spec.class_token:
        x = np.concatenate([arrays["class_token"][None], x])
    first = {name: a[:1] if name.startswith("blocks/") else a for name, a in arrays.items()}
    x = numpy_vit.run_blocks(x, first, 2)
    last = {name: a[1] for name, a in arrays.items() if name.startswith("blocks/")}
    query, key, _ = np.split(
        numpy_vit.dense(numpy_vit.norm(x, last, "blocks/norm1"), last, "blocks/attention/qkv"), 3, 1
    )
    seen = np.zeros((len(x), len(x)))
    for part in (slice(0, 8), slice(8, 16)):
        scores = np.exp(query[:, part] @ key[:, part].T / np.sqrt(8))
        seen += scores / scores.sum(1, keepdims=True) / 2
    rest = {name: a[1:] if name.startswith("blocks/") else a for name, a in arrays.items()}
    x = numpy_vit.norm(numpy_vit.run_blocks(x, rest, 2), arrays, "norm")
    return (seen[0, 1:], x[1:]) if spec.class_token else (seen.mean(0), x)


@pytest.mark.parametrize("class_token", [False, True])
def test_attention_equals_numpy(class_token):
    encoder = make(class_token=class_token)
    expected = []
    for image in IMAGE:
        seen, tokens = looks(image, encoder, encoder.spec)
        assert seen.max() > 1.1 * seen.min()
        expected.append(seen @ tokens / seen.sum())
    np.testing.assert_allclose(pool("attention", encoder), expected, atol=1e-5)


def test_attention_that_looks_everywhere_alike_is_the_mean(encoder):
    arrays = named_arrays(encoder)
    kernel, bias = ("blocks/attention/qkv/kernel", "blocks/attention/qkv/bias")
    blind = {name: np.array(arrays[name]) for name in (kernel, bias)}
    for array in blind.values():
        array[..., :32] = 0  # queries and keys
    even = with_arrays(encoder, arrays | blind, "test")
    np.testing.assert_allclose(pool("attention", even), pool("mean", even), atol=1e-6)
