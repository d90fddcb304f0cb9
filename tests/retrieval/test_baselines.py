import fake_archive
import numpy as np
import pytest

from rejepa_jax.retrieval import baselines, random_features
from rejepa_jax.retrieval.baselines import image_statistics

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


# --- all of them, over records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Places 0 to 8 are the gallery, 9 to 11 the queries."""
    root = tmp_path_factory.mktemp("baselines")
    return fake_archive.prepared(root, {"gallery": 9, "query": 3})


@pytest.mark.parametrize("sensor", ["s1", "s2"])
def test_pixels_are_standardised_with_the_gallerys_known_pixels(records, sensor):
    given = baselines.gallery_input(records, "gallery", sensor)
    shown = [fake_archive.pixels(row, records.schema)[sensor] for row in range(9)]
    bands = np.moveaxis(np.array(shown, np.float64), -1, 0)
    known = [band[band != 0] for band in bands]  # s1 has no zero, s2 a tenth of them
    np.testing.assert_allclose(given.mean, [band.mean() for band in known], rtol=1e-6)
    np.testing.assert_allclose(given.std, [band.std() for band in known], rtol=1e-6)
    assert (given.bands, given.nodata) == (((0, 1), None) if sensor == "s1" else ((0, 1, 2), 0.0))


def test_patches_come_from_the_gallery_only(records, monkeypatch):
    read, drawn = [], []

    def batches(records, rows, sensor, batch_size):
        read.extend(rows)
        return example_batches(records, rows, sensor, batch_size)

    def draw(images, count, rng):
        drawn.append((len(images), count))
        return draw_patches(images, count, rng)

    example_batches = baselines.example_batches
    draw_patches = random_features.draw_patches
    monkeypatch.setattr(baselines, "example_batches", batches)
    monkeypatch.setattr(random_features, "draw_patches", draw)
    monkeypatch.setattr(baselines, "SAMPLE", 5)
    found = baselines.free_descriptors(records, "gallery", "s1", 2)
    assert len(set(read)) == 5
    assert set(read) < set(range(9))
    assert drawn == [(2, 4000), (2, 4000), (1, 4000)]  # none of an image that fills a batch up
    assert tuple(found) == baselines.FREE


def test_the_same_gallery_gives_the_same_descriptors(records):
    images = records.read([0, 9], ("s2",))["image"]["s2"]
    first, second = (baselines.free_descriptors(records, "gallery", "s2", 4) for _ in range(2))
    for name, width in zip(baselines.FREE, (12, 512, 512, 656), strict=True):
        vectors = np.asarray(first[name](images))
        assert vectors.shape == (2, width)
        assert np.isfinite(vectors).all()
        np.testing.assert_array_equal(vectors, second[name](images))
