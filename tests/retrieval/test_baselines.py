import numpy as np
import pytest

from rejepa_jax.retrieval.baselines import image_statistics, unit, z_scored

rng = np.random.default_rng(9)
REFLECTANCE = np.where(
    rng.random((5, 7, 6, 3)) < 0.2, 0, rng.integers(1, 9000, (5, 7, 6, 3))
).astype(np.uint16)
RADAR = rng.normal(-15, 4, (4, 8, 8, 2)).astype(np.float32)


def by_hand(image, nodata):
    """Mean, deviation, minimum and maximum of each band's known pixels, in float64."""
    columns = []
    for band in np.moveaxis(image.astype(np.float64), -1, 0):
        known = band[band != nodata]
        columns.append([known.mean(), known.std(), known.min(), known.max()])
    return np.array(columns).T.ravel()  # all means, then all deviations, ...


@pytest.mark.parametrize(("images", "nodata"), [(REFLECTANCE, 0.0), (RADAR, None)])
def test_statistics_equal_numpys_over_known_pixels(images, nodata):
    assert (images == 0).any() == (nodata == 0)
    expected = [by_hand(image, nodata) for image in images]
    np.testing.assert_allclose(image_statistics(images, nodata), expected, rtol=2e-5)


def test_by_hand():
    image = np.array([[[[0, 1], [2, 3], [4, 5]]]], np.uint16)
    statistics = image_statistics(image, 0.0)
    # Band 0 knows 2 and 4; band 1 knows 1, 3 and 5, whose deviation is sqrt(8 / 3).
    expected = [3, 3, 1, (8 / 3) ** 0.5, 2, 1, 4, 5]
    np.testing.assert_allclose(statistics, [expected], rtol=1e-6)


def test_band_without_a_known_pixel_counts_as_zeros():
    image = np.zeros((2, 3, 3, 2), np.uint16)
    image[0, :, :, 1] = 5
    statistics = image_statistics(image, 0.0)
    np.testing.assert_array_equal(statistics, [[0, 5, 0, 0, 0, 5, 0, 5], [0] * 8])


def test_where_nothing_is_missing_zero_is_a_value():
    image = np.array([[[[0], [4]]]], np.uint8)
    np.testing.assert_array_equal(image_statistics(image, None), [[2, 2, 0, 4]])


def test_order_of_the_pixels_does_not_matter():
    shuffled = REFLECTANCE.reshape(5, 42, 3)[:, rng.permutation(42)].reshape(REFLECTANCE.shape)
    np.testing.assert_allclose(
        image_statistics(shuffled, 0.0), image_statistics(REFLECTANCE, 0.0), rtol=1e-5
    )


def test_unit_rows_have_length_1_and_their_direction():
    vectors = np.array([[3.0, 4.0], [0.0, -2.0]])
    scaled = unit(vectors)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, -1]], rtol=1e-6)


def test_zero_vector_stays_zero():
    np.testing.assert_array_equal(unit(np.zeros((1, 3))), 0)


def test_z_scored_by_hand():
    gallery = np.array([[0.0, 10.0], [4.0, 30.0]], np.float32)  # means 2 and 20, spreads 2 and 10
    scored = z_scored(np.array([[8.0, 60.0]], np.float32), gallery)  # 3 and 4 spreads away
    np.testing.assert_allclose(scored, [[0.6, 0.8]], rtol=1e-6)


def test_constant_dimension_says_nothing():
    gallery = np.stack([np.full(7, 0.1), np.arange(7.0)], axis=1).astype(np.float32)
    np.testing.assert_allclose(np.abs(z_scored(gallery, gallery))[[0, 1, 2, 4, 5, 6]], [[0, 1]] * 6)
