import itertools

import jax
import numpy as np
import pytest

from rejepa_jax.config import Mask
from rejepa_jax.methods.masking import random_masks, token_counts


@pytest.fixture(scope="module")
def draw():
    jitted = jax.jit(random_masks, static_argnums=(1, 2, 3))
    return lambda key, batch, tokens, ratio: jitted(key, batch, tokens, Mask(target_ratio=ratio))


@pytest.mark.parametrize(
    ("tokens", "ratio", "counts"),
    [
        (196, 0.25, (147, 49)),
        (196, 0.4, (118, 78)),  # 78.4 targets
        (196, 0.85, (30, 166)),  # 166.6 targets
        (4, 0.5, (2, 2)),
        (49, 0.25, (37, 12)),
    ],
)
def test_sizes_by_hand(tokens, ratio, counts):
    assert token_counts(tokens, Mask(target_ratio=ratio)) == counts


def test_shapes_are_those_sizes(draw, key):
    masks = draw(key, 3, 196, 0.25)
    assert masks["context"].shape == (3, 147)
    assert masks["target"].shape == (3, 1, 49)


@pytest.mark.parametrize(("tokens", "ratio"), [(196, 0.25), (49, 0.4), (4, 0.5)])
def test_context_and_target_are_disjoint_and_cover_the_grid(draw, key, tokens, ratio):
    masks = draw(key, 64, tokens, ratio)
    both = np.concatenate([masks["context"], masks["target"][:, 0]], axis=1)
    np.testing.assert_array_equal(np.sort(both, axis=1), np.tile(np.arange(tokens), (64, 1)))


def test_same_key_same_masks_with_and_without_jit(draw, key):
    jitted, again = draw(key, 5, 49, 0.25), draw(key, 5, 49, 0.25)
    plain = random_masks(key, 5, 49, Mask())
    for name in ("context", "target"):
        np.testing.assert_array_equal(jitted[name], again[name])
        np.testing.assert_array_equal(jitted[name], plain[name])


def test_other_keys_and_other_images_get_other_masks(draw, key):
    targets = [np.asarray(draw(k, 64, 196, 0.25)["target"][:, 0]) for k in jax.random.split(key)]
    sets = {tuple(np.sort(row)) for row in np.concatenate(targets)}
    assert len(sets) == 128


def test_every_token_is_a_target_equally_often(draw, key):
    images, tokens, ratio = 8192, 196, 0.25
    targets = np.asarray(draw(key, images, tokens, ratio)["target"])
    counts = np.bincount(targets.ravel(), minlength=tokens)
    expected = images * ratio
    # Sampling without replacement: each count has variance images p (1 - p), and they sum to a
    # constant, so this is a chi-square of 195 degrees of freedom: 195 with deviation 19.7.
    chi_square = ((counts - expected) ** 2).sum() / (expected * (1 - ratio)) * (tokens - 1) / tokens
    assert 195 - 4 * 19.7 < chi_square < 195 + 4 * 19.7


def test_every_split_is_equally_likely(draw, key):
    images = 6000
    targets = np.sort(np.asarray(draw(key, images, 4, 0.5)["target"][:, 0]), axis=1)
    splits = list(itertools.combinations(range(4), 2))
    counts = np.array([(targets == split).all(axis=1).sum() for split in splits])
    assert counts.sum() == images
    chi_square = ((counts - images / 6) ** 2 / (images / 6)).sum()
    assert chi_square < 20.5  # 5 degrees of freedom: one draw in a thousand
