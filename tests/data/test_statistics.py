import json

import numpy as np

from rejepa_jax.data.statistics import band_sums


def test_sums_of_one_image_by_hand():
    image = np.array([[[0, 3], [4, 5]]], np.uint16)  # two pixels, two bands, one value missing
    sums = band_sums(image, 0.0)
    assert sums.to_json() == {
        "pixels": [2, 2],
        "count": [1, 2],
        "total": [4, 8],
        "square": [16, 34],
        "low": [4, 3],
        "high": [4, 5],
        "constant": [0, 0],
    }
    assert sums.statistics() == {"mean": [4, 4], "std": [0, 1], "min": [4, 3], "max": [4, 5]}


def test_sums_add_up_and_survive_json():
    rng = np.random.default_rng(3)
    images = rng.normal(size=(2, 3, 4, 2)).astype(np.float32)
    first, second = (band_sums(image, None) for image in images)
    parts = [type(p).from_json(json.loads(json.dumps(p.to_json()))) for p in (first, second)]
    statistics = parts[0].plus(parts[1]).statistics()
    np.testing.assert_allclose(statistics["mean"], images.mean((0, 1, 2), np.float64))
    np.testing.assert_allclose(statistics["std"], images.std((0, 1, 2), np.float64))


def test_band_without_a_known_pixel_has_zeros_for_statistics():
    sums = band_sums(np.zeros((2, 2, 1), np.uint16), 0.0)
    assert sums.statistics() == {"mean": [0], "std": [0], "min": [0], "max": [0]}
