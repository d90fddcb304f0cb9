import numpy as np
import pytest

from rejepa_jax.data.preprocess import SensorInput
from rejepa_jax.retrieval import random_features
from rejepa_jax.retrieval.random_features import FilterBank

rng = np.random.default_rng(3)
RADAR = SensorInput((0, 1), (-15.0, -9.0), (4.0, 2.0), None)
REFLECTANCE = SensorInput((0, 1, 2), (900.0, 1200.0, 50.0), (300.0, 500.0, 1.0), 0.0)


def by_hand(image, bank, given):
    """The description of one image [h w c] in loops, in float64."""
    pixels = image.astype(np.float64)
    known = np.ones(pixels.shape, bool) if given.nodata is None else pixels != given.nodata
    pixels = np.where(known, (pixels - np.array(given.mean)) / np.array(given.std), 0)
    rows, columns = (size // 2 for size in pixels.shape[:2])
    half = np.zeros((rows, columns, pixels.shape[2]))
    for r in range(rows):
        for c in range(columns):
            half[r, c] = pixels[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((0, 1))
    up, down = [], []
    for r in range(rows - 2):
        for c in range(columns - 2):
            window = half[r : r + 3, c : c + 3].ravel()
            response = window @ bank.kernels.reshape(len(window), -1) + bank.offsets
            up.append(np.maximum(response - 0.5, 0))
            down.append(np.maximum(-response - 0.5, 0))
    return np.concatenate([np.mean(up, axis=0), np.mean(down, axis=0)])


def toy_bank(bands, count=5):
    kernels = rng.normal(0, 0.4, (3, 3, bands, count)).astype(np.float32)
    return FilterBank(kernels, rng.normal(0, 0.3, count).astype(np.float32))


def test_responses_equal_numpys():
    radar = rng.normal(-13, 5, (2, 9, 12, 2)).astype(np.float32)
    reflectance = rng.integers(1, 3000, (2, 10, 8, 3))
    reflectance = np.where(rng.random(reflectance.shape) < 0.2, 0, reflectance).astype(np.uint16)
    for images, given in ((radar, RADAR), (reflectance, REFLECTANCE)):
        bank = toy_bank(images.shape[3])
        expected = [by_hand(image, bank, given) for image in images]
        found = random_features.mean_responses(images, bank, given)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_one_filter_by_hand():
    image = np.zeros((1, 6, 6, 1), np.uint8)
    image[0, 2:4, 2:4] = 8  # the middle one of 3 x 3 after halving
    kernel = np.zeros((3, 3, 1, 2), np.float32)
    kernel[1, 1, 0] = 1, -2
    bank = FilterBank(kernel, np.array([0, 1], np.float32))
    given = SensorInput((0,), (2.0,), (3.0,), None)
    # The pixel is (8 - 2) / 3 = 2: responses 2 and -3, beyond the threshold of 0.5 by 1.5 and 2.5.
    found = random_features.mean_responses(image, bank, given)
    np.testing.assert_allclose(found, [[1.5, 0, 0, 2.5]], rtol=1e-6)


def test_unknown_pixels_count_as_the_mean():
    image = rng.integers(1, 3000, (1, 8, 8, 3)).astype(np.uint16)
    image[0, :3, :4] = 0
    filled = np.where(image == 0, np.array([900, 1200, 50], np.uint16), image)
    found = random_features.half_size(image, REFLECTANCE)
    np.testing.assert_allclose(found, random_features.half_size(filled, REFLECTANCE), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "expected"), [((7, 9), (3, 4)), ((6, 5), (6, 5)), ((4, 2), (4, 3)), ((1, 1), (3, 3))]
)
def test_small_images_are_not_halved_and_the_smallest_are_widened(size, expected):
    image = rng.normal(size=(2, *size, 2)).astype(np.float32)
    found = np.asarray(random_features.half_size(image, RADAR))
    assert found.shape == (2, *expected, 2)
    if size == (1, 1):
        np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1], found.shape))


def test_gaussian_response_has_variance_1_to_noise_and_to_flat_images():
    for bands in (1, 12):
        kernels = random_features.gaussian_bank(bands, 0).kernels
        assert kernels.shape == (3, 3, bands, 256)
        np.testing.assert_allclose((kernels**2).sum((0, 1, 2)).mean(), 1, atol=0.08)
        np.testing.assert_allclose((kernels.sum((0, 1, 2)) ** 2).mean(), 1, atol=0.25)


def test_a_seed_names_the_filters():
    first, again, other = (random_features.gaussian_bank(2, seed).kernels for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).min() > 0


def as_numpy(bank):
    return FilterBank(*map(np.asarray, bank))


def correlated_patches(count, bands=2):
    mixing = rng.normal(size=(9 * bands, 9 * bands)) * 0.3
    return (rng.normal(size=(count, 9 * bands)) @ mixing + 2).reshape(count, 3, 3, bands)


def test_zca_filters_are_whitened_patches_of_length_1():
    patches = correlated_patches(300)
    flat, bank = patches.reshape(300, -1), as_numpy(random_features.zca_bank(patches, 0))
    covariance = np.cov(flat.T) + 0.02 * np.eye(18)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors @ np.diag(values**0.5) @ vectors.T  # the inverse of the whitening
    units = root @ bank.kernels.reshape(18, 256)
    np.testing.assert_allclose(np.linalg.norm(units, axis=0), 1, rtol=1e-5)
    white = np.linalg.solve(root, (flat - flat.mean(0)).T)
    white /= np.linalg.norm(white, axis=0)
    places = (units.T @ white).argmax(1)
    np.testing.assert_allclose(units, white[:, places], atol=1e-5)
    assert len(set(places)) == 256  # each patch is drawn once
    expected = -flat.mean(0) @ bank.kernels.reshape(18, 256)
    np.testing.assert_allclose(bank.offsets, expected, atol=1e-5)


def test_zca_responses_to_the_patches_are_centred_and_of_spread_1():
    patches = correlated_patches(5000)
    bank = as_numpy(random_features.zca_bank(patches, 0))
    responses = patches.reshape(5000, -1) @ bank.kernels.reshape(18, 256) + bank.offsets
    np.testing.assert_allclose(responses.mean(0), 0, atol=1e-4)
    assert (responses.std(0) < 1).all()  # the floor takes a little
    assert np.median(responses.std(0)) > 0.9


@pytest.mark.parametrize("count", [1, 40, 300])
def test_patches_without_contrast_and_few_patches_give_finite_filters(count):
    flat = np.full((count, 3, 3, 1), 0.7)
    if count == 40:
        flat += rng.normal(size=flat.shape)
    bank = random_features.zca_bank(np.repeat(flat, 2, axis=0), 0)
    assert bank.kernels.shape == (3, 3, 1, 256)
    assert np.isfinite(bank.kernels).all()
    assert np.isfinite(bank.offsets).all()


def test_patches_are_windows_of_their_image():
    images = np.arange(2 * 5 * 6 * 2, dtype=np.float32).reshape(2, 5, 6, 2)
    patches = random_features.draw_patches(images, 400, np.random.default_rng(0))
    assert patches.shape == (800, 3, 3, 2)
    corner = np.array([[12 * r + 2 * c for c in range(4)] for r in range(3)])
    for number, part in enumerate(np.split(patches, 2)):
        assert set(part[:, 0, 0, 0] - 60 * number) == set(corner.ravel())  # each of the places
        steps = part - part[:, :1, :1, :1]
        expected = np.arange(3)[:, None, None] * 12 + np.arange(3)[:, None] * 2 + np.arange(2)
        np.testing.assert_array_equal(steps, np.broadcast_to(expected, steps.shape))
