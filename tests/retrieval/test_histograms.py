import numpy as np
import pytest

from rejepa_jax.data.preprocess import SensorInput
from rejepa_jax.retrieval.histograms import colour_and_gradient_histogram

rng = np.random.default_rng(8)


def given(bands, nodata=None):
    return SensorInput(tuple(range(bands)), (100.0,) * bands, (40.0,) * bands, nodata)


def by_hand(image):
    """The description of one image [h w c] pixel by pixel."""
    h, w, c = image.shape
    pixels = (image.astype(np.float64) - 100) / 40
    levels = np.zeros(8**c if c <= 3 else 8 * c)
    down, right = np.gradient(pixels.mean(-1))
    gradients = np.zeros((4, 4, 9))
    for r in range(h):
        for s in range(w):
            level = [min(max(int(np.floor((v + 2) * 2)), 0), 7) for v in pixels[r, s]]
            if c <= 3:
                levels[sum(one * 8**band for band, one in enumerate(level))] += 1 / (h * w)
            else:
                for band, one in enumerate(level):
                    levels[8 * band + one] += 1 / (h * w * c)
            angle = np.degrees(np.arctan2(down[r, s], right[r, s])) % 180
            length = np.hypot(down[r, s], right[r, s])
            gradients[r * 4 // h, s * 4 // w, min(int(angle / 20), 8)] += length / (h * w)
    return np.sqrt(np.concatenate([levels, gradients.ravel()]))


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_counts_equal_those_pixel_by_pixel(bands):
    images = rng.normal(100, 60, (2, 9, 14, bands)).astype(np.float32)
    found = colour_and_gradient_histogram(images, given(bands))
    np.testing.assert_allclose(found, [by_hand(image) for image in images], atol=2e-6)
    np.testing.assert_allclose((found[:, :-144] ** 2).sum(1), 1, rtol=1e-5)  # shares of the levels


def test_flat_image_has_one_colour_and_no_gradient():
    image = np.full((1, 8, 8, 3), 100, np.uint8)
    found = np.asarray(colour_and_gradient_histogram(image, given(3)))[0]
    assert found[4 + 8 * 4 + 64 * 4] == 1  # the middle of 8 levels is the lower edge of the fifth
    assert found.sum() == 1


def test_unknown_pixels_count_as_the_mean():
    image = rng.integers(1, 200, (1, 8, 8, 4)).astype(np.uint16)
    image[0, 2:5, 1:] = 0
    filled = np.where(image == 0, 100, image).astype(np.uint16)
    found, expected = (
        colour_and_gradient_histogram(one, given(4, nodata))
        for one, nodata in ((image, 0.0), (filled, None))
    )
    np.testing.assert_array_equal(found, expected)
